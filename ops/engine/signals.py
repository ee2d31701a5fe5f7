"""Ctrl-C and SIGTERM."""
import os
import signal


class Signals:
    """Ctrl-C and SIGTERM: while meta-training the first one ends it after a save, the second one at once.

    At other times (starting, scoring) there is nothing to save: KeyboardInterrupt.
    """

    def __init__(self):
        self.dispatcher = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.stop)

    def stop(self, number, frame):
        """Handle a signal."""
        if self.dispatcher is None:
            raise KeyboardInterrupt
        if self.dispatcher.stopping:
            os._exit(130)
        self.dispatcher.stopping = True

"""What the commands of `train.py` and `evaluate.py` have in common."""
import argparse

from ops.errors import InputError


class OneLineParser(argparse.ArgumentParser):
    """A parser that complains in one line, as an InputError, and takes no abbreviated flags."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)

    def error(self, message):
        raise InputError(f"{message} (`python {self.prog} --help` lists what there is)")

"""The one error a user's input can cause."""


class InputError(ValueError):
    """Bad input: a file, an option or an array that cannot be used.

    Its text is one line that names the thing and the mend.  `train.py` and `evaluate.py` print it
    on standard error and exit with code 2; as a `ValueError` it serves callers of the library too.
    """

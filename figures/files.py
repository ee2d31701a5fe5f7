"""What every figure does: its picture as a file, its numbers beside it, and the command that draws it again."""
import io
import json
import sys
from pathlib import Path

from ops.errors import InputError
from ops.files import write_atomically


def write_picture(numbers, figure, path):
    """Write the figure (`.png`) and its numbers beside it (`.json`), each atomically; InputError if it cannot."""
    path = Path(path)
    write_atomically(path.with_suffix(".json"), (json.dumps(numbers, indent=1) + "\n").encode())
    save(figure, path)


def save(figure, path):
    """Write a Matplotlib Figure to `path` as a PNG, atomically; InputError if it cannot."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())


def main(name, draw, command, arguments=None):
    """`python -m figures.NAME NUMBERS.json OUT.png`: draw again from the numbers.

    draw       numbers -> Figure; what it raises on numbers of another form is reported, an InputError as it is
    command    the command that writes such numbers, to be named in messages
    arguments  [NUMBERS.json, OUT.png], by default the process's own
    Returns 0, or 2 after one line on standard error.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if len(arguments) != 2:
            raise InputError(f"usage: python -m figures.{name} NUMBERS.json OUT.png")
        try:
            figure = draw(json.loads(Path(arguments[0]).read_text()))
        except InputError:
            raise
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise InputError(f"{arguments[0]}: not the numbers of this figure ({error}); "
                             f"write them with `{command}`") from error
        save(figure, arguments[1])
    except InputError as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0

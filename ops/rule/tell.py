"""`python unsup_meta.py`: one update of a tiny network, told as it runs through the definitions.

Nothing is written twice: each line whose comment holds a number of the paper is told once it has run, with
what it assigned, as Python's own tracing shows it.  A line is told the first time that it runs.
"""
import ast
import re
import sys

import numpy as np

from ops.rule.fast import definitions_in_use, use_definitions
from ops.rule.primitive import flatten

NUMBERED = re.compile(r"#.*?\((?P<number>(?:in )?(?:App\.|D)\d[^)]*)\)")
SIZES, B, DIMS = [6, 5, 4], 4, dict(hdims=4, delta=3, top=4, rank=2)


class Teller:
    """Traces the functions of one source file and prints their numbered lines."""

    def __init__(self, path):
        self.path, self.told, self.section = path, set(), None
        with open(path, encoding="utf-8") as f:
            text = f.read()
        self.lines = text.splitlines()
        self.statement_at = {}  # the statement that is on a line, the innermost one
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.Assign, ast.Return)):
                self.statement_at.update(dict.fromkeys(range(node.lineno, node.end_lineno + 1), node))

    def run(self, fun, *args):
        """fun(*args), told."""
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            return fun(*args)
        finally:
            sys.settrace(before)

    def _call(self, frame, event, arg):
        if frame.f_code.co_filename != self.path or frame.f_code.co_name.startswith("<"):
            return None
        at_work = [None]

        def trace(frame, event, arg):
            statement = self.statement_at.get(frame.f_lineno)
            if at_work[0] is not None and (event == "return" or statement is not at_work[0]):
                self._tell(at_work[0], frame, event, arg)
            at_work[0] = statement if event == "line" else at_work[0]
            return trace

        return trace

    def _tell(self, statement, frame, event, arg):
        source = self.lines[statement.lineno - 1:statement.end_lineno]
        comment = NUMBERED.search(source[-1])
        if comment is None or statement in self.told or isinstance(statement, ast.Return) != (event == "return"):
            return
        self.told.add(statement)
        self._head(statement, frame)
        if isinstance(statement, ast.Return):
            of = [("-> " + frame.f_code.co_name, arg)]
        else:
            target, = statement.targets
            targets = target.elts if isinstance(target, ast.Tuple) else [target]
            of = [(name, eval(name, frame.f_globals, frame.f_locals)) for name in map(ast.unparse, targets)]
        code = ast.unparse(statement)
        for i, (name, value) in enumerate(of):
            number = f"({comment['number']})" if i == 0 else ""
            shape, size = described(value)
            print(f"  {number:<22} {name:<19} {shape:<26} {size:>7}  {code if i == 0 else ''}".rstrip())

    def _head(self, statement, frame):
        titles = (line for line in self.lines[statement.lineno::-1] if line.startswith("# --- "))
        title = next(titles, "").strip("# -")
        if (title, frame.f_code.co_name) != self.section:
            self.section = title, frame.f_code.co_name
            print(f"\n{frame.f_code.co_name}, {title}")


def described(value):
    """(shapes, root mean square of all entries) of an array, or of the arrays of a list."""
    arrays = [np.asarray(a) for a in flatten(value)[0] if a is not None]
    shapes = list(dict.fromkeys("[" + ", ".join(map(str, a.shape)) + "]" for a in arrays))
    entries = np.concatenate([a.ravel() for a in arrays])
    count = f"{len(arrays)} x " if len(arrays) > 1 and len(shapes) == 1 else ""
    return count + (" ".join(shapes) if len(shapes) < 4 else f"{len(arrays)} arrays"), f"{np.sqrt(np.mean(entries ** 2)):.4f}"


def tell(um):
    """Tell an update, J and its gradient; um: the module unsup_meta, which may be running as a program."""
    before = definitions_in_use()
    use_definitions()
    rng = np.random.default_rng(0)
    theta, phi = um.init_theta(rng, B, **DIMS, dtype=np.float64), um.init_phi(rng, SIZES, np.float64)
    x, (xa, xb) = rng.random((B, SIZES[0])), rng.random((2, 12, SIZES[0]))
    y, settings = np.eye(3)[np.arange(12) % 3], (0.1, 1e-3)
    print(f"A base model of layers {SIZES}, B = {B}; H = {DIMS['hdims']}, delta = {DIMS['delta']}, T = {DIMS['top']}, R = "
          f"{DIMS['rank']}; lr {settings[0]}, norm_eps {settings[1]}.\nequation, name, shape, root mean square, code")
    teller = Teller(um.__file__)
    new = teller.run(um.unsupervised_update, phi, x, theta, *settings)
    J = teller.run(um.meta_objective, new, xa, y, xb, y)
    print(f"\nJ after this update: {J:.6f} (0 is perfect, 2 chance)")
    labelled = tuple(a[None, None] for a in (xa, y, xb, y))
    use_definitions(before)
    J, grad, _ = um.meta_gradient(theta, phi, x[None], labelled, *settings)
    step = {name: 1e-8 * rng.standard_normal(a.shape) for name, a in theta.items()}
    moved = ({name: theta[name] + sign * step[name] for name in theta} for sign in (1, -1))
    ahead, behind = (um.unroll(other, phi, x[None], labelled, *settings)[0] for other in moved)
    claimed = sum(np.sum(grad[name] * step[name]) for name in theta) / 1e-8
    print(f"dJ/dtheta along a random direction: {claimed:.7f} by the gradient, {(ahead - behind) / 2e-8:.7f} by a finite "
          "difference")

"""The paper's figures, one module each.

A module turns results into plain numbers (`numbers_of`), draws them (`draw`), and writes the picture
with its numbers beside it (`write`); `python -m figures.NAME NUMBERS.json OUT.png` draws it again
from the numbers alone.
"""

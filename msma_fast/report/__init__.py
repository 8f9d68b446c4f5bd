"""The report of an analysis: one self-contained page, its numbers, its figures and its methods paragraph.

`write_report(results, folder)` takes the plain dict of schema msma_fast.analysis/1 and nothing else: no
model, no tensor, no library beyond the standard one.
"""

from msma_fast.report.methods import methods_text
from msma_fast.report.schema import SCHEMA, validate
from msma_fast.report.write import first_figure, write_report

__all__ = ["SCHEMA", "first_figure", "methods_text", "validate", "write_report"]

from .report.page import write_page as write_page
from .report.results import EvaluationReport as EvaluationReport
from .report.results import merge as merge
from .report.tables import markdown_table as markdown_table
from .report.tables import terminal_table as terminal_table
from .suite import Evaluation as Evaluation
from .suite import evaluate as evaluate

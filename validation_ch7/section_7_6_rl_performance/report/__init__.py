"""The report of section 7.6: figures, tables and LaTeX from a run's own data, each naming where it comes from.

python -m validation_ch7.section_7_6_rl_performance.report --scenario traffic_light_control_ingolstadt1
"""

import kaggle_manager.trainer  # noqa: F401  # it pins the arithmetic, which has to be before NumPy is loaded
from validation_ch7.section_7_6_rl_performance.report.writing import (
    SECTION_FILE,
    check_report,
    report_folder,
    results_folder,
    write_report,
)

__all__ = ["SECTION_FILE", "check_report", "report_folder", "results_folder", "write_report"]

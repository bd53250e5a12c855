"""A page on your annotators: skill, bias, how wide they draw, labels to look at again."""

from noisyseg.report.make import build, own_config, prepared_folder, report_page, write_predictions

__all__ = ["build", "own_config", "prepared_folder", "report_page", "write_predictions"]

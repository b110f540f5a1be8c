"""The one label value that is no class. Imports nothing, so that every layer may import it."""

IGNORE = 255
"""Value of label pixels (uint8 on disk, any dtype in memory) that nobody has labelled: no loss, no score, no statistic."""

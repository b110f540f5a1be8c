"""Labels that look wrong, in order: those that predictions doubt, and those that lie off the image."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from functools import partial

from swath import tracking
from swath.entry_point import preparation
from swath.prediction.label_faults import FindLabelFaultsConfig, paired_maps
from swath.scoring.held_out import HeldOutCheck
from swath.scoring.lineage import check_all_predictions
from swath.training.model_record import fetch_tiles


def check(config: FindLabelFaultsConfig) -> HeldOutCheck | None:
    """What the scenes are to the models of the maps; LeakError when they trained one, which then believes their labels."""
    if config.predictions_path is None:
        return None
    tiles_of = partial(fetch_tiles, fetch=tracking.fetch)
    return check_all_predictions(paired_maps(config), tiles_of, allow_selection_set=True)


main = preparation(FindLabelFaultsConfig, check)

if __name__ == "__main__":
    raise SystemExit(main.start())

"""train_cnn: train a CNN on the features of titles, starting from the word embedding."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import process_setup  # noqa: F401

from not_trained import write_untrained

from rubro.base.params import CnnParams, Params
from rubro.base.stage import run_stage


def main(params: Params) -> None:
    if not params.train_cnn.is_trained:
        write_untrained("cnn")
        return
    # Imported here and not at the top, because these imports take seconds.
    from train_network import train_network

    from rubro.models.cnn import Cnn
    from rubro.prediction.folder import CnnMember

    hyperparameters = CnnParams.merged(params.networks, params.train_cnn)
    train_network("cnn", Cnn, CnnMember, params, hyperparameters)


if __name__ == "__main__":
    run_stage(main)

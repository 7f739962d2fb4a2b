"""train_mlp: train an MLP on the features of titles, starting from the word embedding."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import process_setup  # noqa: F401

from not_trained import write_untrained

from rubro.base.params import MlpParams, Params
from rubro.base.stage import run_stage


def main(params: Params) -> None:
    if not params.train_mlp.is_trained:
        write_untrained("mlp")
        return
    # Imported here and not at the top, because these imports take seconds.
    from train_network import train_network

    from rubro.models.mlp import Mlp
    from rubro.prediction.folder import MlpMember

    hyperparameters = MlpParams.merged(params.networks, params.train_mlp)
    train_network("mlp", Mlp, MlpMember, params, hyperparameters)


if __name__ == "__main__":
    run_stage(main)

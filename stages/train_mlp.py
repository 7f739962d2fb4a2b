"""train_mlp: features and embedding to the MLP classifier."""

import workspace  # noqa: F401

from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.models.mlp import Mlp
from rubro.training.loop import train_and_save


def main(params: Params) -> None:
    train_and_save(Mlp, "mlp", params, params.train_mlp)


if __name__ == "__main__":
    run_stage(main)

"""train_cnn: features and embedding to the CNN classifier."""

import workspace  # noqa: F401

from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.models.cnn import Cnn
from rubro.training.loop import train_and_save


def main(params: Params) -> None:
    train_and_save(Cnn, "cnn", params, params.train_cnn)


if __name__ == "__main__":
    run_stage(main)

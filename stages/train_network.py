"""Common part of train_mlp and train_cnn: features and embedding in, model and curves out."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import process_setup

import lightning as L
from model_output import FEATURES, SUBSET, log_outcome, save_member

from rubro.base.console import console
from rubro.base.files import write_json
from rubro.base.parallel import THREADS_VARIABLE, thread_count
from rubro.base.params import Params, TrainParams
from rubro.data.splits import load_labels
from rubro.features.embedding import Embedding
from rubro.features.titles import load_features
from rubro.models.layers import ModelShape, Network, stored
from rubro.prediction.folder import CnnMember, MlpMember
from rubro.training.callbacks import CURVES
from rubro.training.checkpoints import checkpoint_folder
from rubro.training.loop import Run, TrainingTitles, train
from rubro.training.machines import processes_of
from rubro.training.title_weights import titles_to_choose_by
from rubro.training.tracking import tracked

EMBEDDING = Path("models/embedding")
_LEADER = "RUBRO_LEADER"


def initial_network(
    kind: type[Network], params: Params, hyperparameters: TrainParams, classes: int
) -> Network:
    """Return a network that starts from the embedding, or from a random one.

    Args:
        kind: Class of the network.
        params: All parameters.
        hyperparameters: Parameters of the network.
        classes: Number of categories.
    """
    embedding = Embedding.load(EMBEDDING)
    if hyperparameters.initial_embedding == "random":
        embedding = embedding.randomised(params.seed)
    rows, size = embedding.table.shape
    shape = ModelShape(rows, size, params.featurize.bigram_buckets, classes)
    network = kind(shape, hyperparameters)
    network.token_vectors.start_from(
        embedding, hyperparameters.embedding_scale, hyperparameters.fine_tune_embedding
    )
    return network


def train_network(
    name: str,
    kind: type[Network],
    member: type[MlpMember | CnnMember],
    params: Params,
    hyperparameters: TrainParams,
) -> None:
    """Train a network; write models/NAME, metrics/curves/NAME and metrics/train_NAME.json.

    Args:
        name: Name of the model.
        kind: Class of the network.
        member: Class of its entry in model.json.
        params: All parameters.
        hyperparameters: Parameters of the network.
    """
    processes = processes_of(params.nodes, params.devices, started=process_setup.LEADER is not None)
    console().quiet = not processes.speaks
    L.seed_everything(params.seed, verbose=False)
    (train_titles, validation), tokens = load_features(FEATURES, "train", "validation")
    chosen = titles_to_choose_by(validation.labels, params.min_reliable_titles)
    classes = len(load_labels(SUBSET))
    titles = TrainingTitles(train_titles, validation.take(chosen), tokens, classes)
    network = initial_network(kind, params, hyperparameters, classes)
    training: dict[str, Any] = {"seed": params.seed, **hyperparameters.model_dump()}
    settings = {
        **training,
        "accelerator": params.accelerator,
        "devices": processes.count,
        "min_reliable_titles": params.min_reliable_titles,
        "featurize": params.featurize.model_dump(),
    }
    if params.devices > 1 and not process_setup.LEADER:  # for the processes that Lightning starts
        os.environ[_LEADER] = str(os.getpid())
        os.environ[THREADS_VARIABLE] = str(thread_count() // params.devices)
    where = params.seed, params.accelerator
    if not processes.leads:  # the process that does writes the outcome
        with TemporaryDirectory() as empty:
            run = Run(*where, Path(empty), processes)
            train(network, titles, hyperparameters, run, lambda *_: None)
    inputs = [FEATURES, SUBSET, EMBEDDING, process_setup.CODE]
    curves = Path("metrics/curves") / name
    with (
        checkpoint_folder(name, settings, inputs) as checkpoints,
        tracked(curves, f"train_{name}", {f"train_{name}": training}) as tracker,
    ):
        run = Run(*where, checkpoints, processes)
        trained = train(network, titles, hyperparameters, run, tracker.log_epoch)
        network.load_state_dict(trained.state)
        tensors = stored(network, hyperparameters.table_precision)
        own = {key: value for key, value in training.items() if key in member.model_fields}
        size = network.token_vectors.table.embedding_dim
        entry = member(**own, vector_size=size, training=training | trained.origin)
        summary = save_member(name, entry, tensors, params)
        write_json(Path(f"metrics/train_{name}.json"), {**trained.summary, **summary})
        best = trained.summary["best"]
        of_best = {f"best/{split}/{k}": v for split in CURVES for k, v in best[split].items()}
        log_outcome(tracker, name, summary, of_best)

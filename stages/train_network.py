"""Train a network for the stages train_mlp and train_cnn."""

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import process_setup

import lightning as L
import numpy as np
import torch
from model_output import (
    FEATURES,
    PSEUDO_LABELS,
    SUBSET,
    log_outcome,
    pseudo_label_count,
    refitted,
    save,
    single_model,
    validate,
    wants_final_fit,
    with_pseudo_labels,
)

from rubro.base.console import console
from rubro.base.files import write_json
from rubro.base.params import Params, TrainParams
from rubro.data.splits import load_labels, load_source
from rubro.features.embedding import Embedding
from rubro.features.titles import LabelledTitles, load_features
from rubro.models.layers import ModelShape, Network, stored
from rubro.prediction.folder import CnnMember, MlpMember
from rubro.training.callbacks import LOGGED_SPLITS
from rubro.training.checkpoints import checkpoint_folder
from rubro.training.data_parallel import connected, find_processes
from rubro.training.loop import TrainingData, train
from rubro.training.title_weights import selection_titles
from rubro.training.tracking import tracked

EMBEDDING = Path("models/embedding")


def initial_network(
    kind: type[Network],
    params: Params,
    hyperparameters: TrainParams,
    classes: int,
    columns: int,
) -> Network:
    """Return a network that starts from the trained embedding or from random vectors.

    Its initial weights are the same in each call.
    """
    L.seed_everything(params.seed, verbose=False)
    embedding = Embedding.load(EMBEDDING)
    if hyperparameters.initial_embedding == "random":
        embedding = embedding.randomised(params.seed)
    rows, size = embedding.table.shape
    shape = ModelShape(rows, size, params.featurize.bigram_buckets, classes, columns)
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
        member: Class of the network's description in model.json.
        params: All parameters of params.yaml.
        hyperparameters: Parameters of the network.
    """
    processes = find_processes(params.nodes, params.devices, params.accelerator)
    console().quiet = processes.local_rank > 0
    with ExitStack() as stack:
        stack.enter_context(connected(processes, params.accelerator))
        columns = len(load_source(SUBSET).token_columns)
        (train_titles, validation), tokens = load_features(
            FEATURES, "train", "validation", columns=columns
        )
        chosen = selection_titles(validation.labels, params.min_reliable_titles)
        classes = len(load_labels(SUBSET))
        titles = with_pseudo_labels(train_titles, "selection")
        data = TrainingData(titles, validation.take(chosen), tokens, classes)
        unused = {"column_dropout"} if columns == 1 else set()
        used = hyperparameters.model_dump(exclude=unused)
        training: dict[str, Any] = {"seed": params.seed, **used, **pseudo_label_count(titles)}
        settings = {
            **training,
            "objective": params.objective,
            "accelerator": params.accelerator,
            "devices": processes.count,
            "min_reliable_titles": params.min_reliable_titles,
            "featurize": params.featurize.model_dump(),
        }
        inputs = [FEATURES, SUBSET, EMBEDDING, PSEUDO_LABELS, process_setup.CODE]
        if processes.rank == 0:
            checkpoints = stack.enter_context(checkpoint_folder(name, settings, inputs))
            curves, values = Path("metrics/curves") / name, {f"train_{name}": training}
            tracker = stack.enter_context(tracked(curves, f"train_{name}", values, params))
        else:
            checkpoints = Path(stack.enter_context(TemporaryDirectory()))
        fit = partial(
            train,
            params=hyperparameters,
            seed=params.seed,
            objective=params.objective,
            accelerator=params.accelerator,
            processes=processes,
        )
        new_network = partial(initial_network, kind, params, hyperparameters, classes, columns)
        network = new_network()
        log_epoch = tracker.log_epoch if processes.rank == 0 else lambda *_: None
        result = fit(network, data, report=log_epoch, checkpoints=checkpoints)
        final = None
        if wants_final_fit(params, len(train_titles)):
            together = LabelledTitles.concatenated([train_titles, validation])
            data = replace(data, train=with_pseudo_labels(together, "final"))
            epoch = result.summary["best"]["epoch"]
            again = new_network()
            folder = checkpoints / "final"
            folder.mkdir(exist_ok=True)
            final = fit(again, data, report=None, checkpoints=folder, last_epoch=epoch)
        if processes.rank > 0:
            return

        def stored_as(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
            network.load_state_dict(state)
            return stored(network, hyperparameters.table_precision)

        own = {key: value for key, value in training.items() if key in member.model_fields}
        size = network.token_vectors.table.embedding_dim
        entry = member(**own, vector_size=size, training=training | result.origin)
        model = single_model(name, entry, stored_as(result.state), params)
        model, summary = validate(model, params)
        if final is not None:
            model = refitted(model, entry, stored_as(final.state))
        summary = {**result.summary, **summary, **save(model)}
        write_json(Path(f"metrics/train_{name}.json"), summary)
        best = result.summary["best"]
        best_metrics = {
            f"best/{split}/{k}": v for split in LOGGED_SPLITS for k, v in best[split].items()
        }
        log_outcome(tracker, name, summary, best_metrics)

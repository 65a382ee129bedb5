"""Finished pipelines as runs that experiments start from."""

import json

import pytest
import torch
from training_runs import make_smoke_base

from eat_hf import A2ET, EDN, DetailRenderer, EATPipeline
from eat_hf.errors import UserError
from training.loop.command_line import latent_folder
from training.release.unpack import EMOTION, STAGE_1, UnpackOptions, unpack


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model whose EAMs have learnt something."""
    folder = tmp_path_factory.mktemp("base")
    pipe = EATPipeline.from_pretrained(make_smoke_base(folder))
    for module in (pipe.a2et, pipe.repos_net):
        for name, parameter in module.named_parameters():
            if "eam" in name:
                torch.nn.init.normal_(parameter)
    pipe.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps({"a2et": {"keypoints_px": 0.5}}))
    return folder


@pytest.fixture(scope="module")
def runs(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked") / "runs"
    unpack(UnpackOptions(model=str(base), output=str(folder)))
    return folder


def test_every_stage_is_there(runs):
    for run, component in STAGE_1.items():
        assert (runs / run / component / "config.json").is_file() and (runs / run / "results.json").is_file()
    assert {path.name for path in (runs / "emotion").iterdir()} == {*EMOTION, "results.json"}
    assert latent_folder(runs, "repos_net") == runs / "renderer/repos_net"
    assert json.loads((runs / "a2et/results.json").read_text()) == {"keypoints_px": 0.5}


@pytest.mark.parametrize("kind, place", [(A2ET, "a2et/a2et"), (DetailRenderer, "renderer/repos_net")])
def test_stage_1_knows_no_emotion(base, runs, kind, place):
    before = kind.from_pretrained(base / place.split("/")[1]).state_dict()
    after = kind.from_pretrained(runs / place).state_dict()
    for name, tensor in after.items():
        if "eam" not in name:
            assert torch.equal(tensor, before[name]), name
        elif ".expand." in name:
            assert not tensor.any(), name
        else:
            assert tensor.any() and not torch.equal(tensor, before[name]), name


def test_stage_2_is_as_it_was(base, runs):
    for kind, component in ((A2ET, "a2et"), (EDN, "edn")):
        before = kind.from_pretrained(base / component).state_dict()
        for name, tensor in kind.from_pretrained(runs / "emotion" / component).state_dict().items():
            assert torch.equal(tensor, before[name]), name


def test_runs_of_two_models_do_not_mix(base, runs):
    with pytest.raises(UserError, match="not empty"):
        unpack(UnpackOptions(model=str(base), output=str(runs)))

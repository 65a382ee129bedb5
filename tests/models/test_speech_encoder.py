import numpy as np
import pytest
import torch
from official_release import deepspeech_constants, encode_graph

from eat_hf.conversion.official import ConversionError, load_deepspeech
from eat_hf.inputs.audio import deepspeech_features
from eat_hf.models import speech_encoder
from eat_hf.models.speech_encoder import DeepSpeechEncoder


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_as_tensorflow_does(rows, kernel, bias):
    """BasicLSTMCell of TensorFlow 1 with forget bias 1, over (T, input) -> (T, hidden)."""
    hidden = len(bias) // 4
    h, c, outputs = np.zeros(hidden), np.zeros(hidden), []
    for row in rows:
        i, j, f, o = np.split(np.concatenate([row, h]) @ kernel + bias, 4)
        c = c * sigmoid(f + 1) + sigmoid(i) * np.tanh(j)
        h = np.tanh(c) * sigmoid(o)
        outputs.append(h)
    return np.stack(outputs)


def logits_as_deepspeech_does(features, constants):
    """(T, 494) -> (T, 29) in float64."""
    w = {name: array.astype(np.float64) for name, array in constants.items()}
    x = features.astype(np.float64)
    for i in (1, 2, 3):
        x = np.clip(x @ w[f"h{i}"] + w[f"b{i}"], 0, 20)
    forward, backward = (f"bidirectional_rnn/{d}/basic_lstm_cell/" for d in ("fw", "bw"))
    ahead = lstm_as_tensorflow_does(x, w[forward + "kernel"], w[forward + "bias"])
    behind = lstm_as_tensorflow_does(x[::-1], w[backward + "kernel"], w[backward + "bias"])[::-1]
    x = np.clip(np.concatenate([ahead, behind], 1) @ w["h5"] + w["b5"], 0, 20)
    return x @ w["h6"] + w["b6"]


@pytest.fixture
def graph(tmp_path):
    constants = deepspeech_constants()
    constants["b1"] += 15  # so that the clipping at 20 matters
    other = {"bidirectional_rnn/fw/sequence_length": np.array([3], np.int32), "dropout": np.array([0.9], np.float32)}
    path = tmp_path / "output_graph.pb"
    path.write_bytes(encode_graph(constants | other, as_floats=("b6", "dropout")))
    return path, constants


def test_the_frozen_graph_computes_what_tensorflow_computes(graph):
    path, constants = graph
    model, unused = load_deepspeech(path)
    assert unused == ["dropout"]
    features = np.random.default_rng(1).normal(size=(12, 494)).astype(np.float32)
    expected = logits_as_deepspeech_does(features, constants)
    assert (np.clip(features @ constants["h1"] + constants["b1"], 0, 20) == 20).any()
    with torch.no_grad():
        ours = model.logits(torch.from_numpy(features)[None])[0]
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_half_precision_constants_and_repeated_last_numbers(tmp_path):
    constants = deepspeech_constants()
    half = {name: array.astype(np.float16) if name == "h1" else array for name, array in constants.items()}
    path = tmp_path / "graph.pb"
    graph = encode_graph(half)
    path.write_bytes(graph)
    model, _ = load_deepspeech(path)
    np.testing.assert_array_equal(model.dense1.weight.detach().T, half["h1"].astype(np.float32))


def test_a_graph_without_a_weight_is_refused_by_its_name(tmp_path):
    constants = deepspeech_constants()
    del constants["h5"], constants["bidirectional_rnn/bw/basic_lstm_cell/bias"]
    path = tmp_path / "graph.pb"
    path.write_bytes(encode_graph(constants))
    with pytest.raises(ConversionError, match="lacks h5, bidirectional_rnn/bw/basic_lstm_cell/bias"):
        load_deepspeech(path)


def test_layers_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "graph.pb"
    path.write_bytes(encode_graph(deepspeech_constants() | {"h2": np.zeros((3, 5), np.float32)}))
    with pytest.raises(ConversionError, match="do not fit together"):
        load_deepspeech(path)


@pytest.mark.parametrize("content", [b"not a graph at all", b"\x0a\xff\x01abc", b""])
def test_files_that_are_no_graph_are_refused(tmp_path, content):
    path = tmp_path / "graph.pb"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match="graph"):
        load_deepspeech(path)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return DeepSpeechEncoder(hidden=8).eval()


def clips(samples):
    generator = torch.Generator().manual_seed(3)
    loudness = torch.tensor([[0.05], [0.6]])
    return torch.randn(2, samples, generator=generator) * loudness


def test_long_recordings_are_heard_in_blocks_and_as_a_whole(encoder, monkeypatch):
    waveform = clips(80_000)
    whole = encoder(waveform)
    monkeypatch.setattr(speech_encoder, "BLOCK", 33)
    torch.testing.assert_close(encoder(waveform), whole)


@pytest.mark.parametrize(("samples", "frames"), [(3_200, 5), (16_000, 25), (16_321, 25), (160_000, 250)])
def test_semantic_features_come_at_25_a_second(encoder, samples, frames):
    with torch.no_grad():
        assert encoder(clips(samples)).shape == (2, frames, 16, 29)


def test_a_batch_equals_its_clips_and_runs_repeat(encoder):
    waveform = clips(16_000)
    with torch.no_grad():
        both = encoder(waveform)
        torch.testing.assert_close(both, torch.cat([encoder(clip[None]) for clip in waveform]), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(both, encoder(waveform), atol=0, rtol=0)
    assert (both[0] - both[1]).abs().max() > 1e-3


def test_windows_hold_the_logits(encoder):
    waveform = clips(16_000)[:1]
    with torch.no_grad():
        logits = encoder.logits(deepspeech_features(waveform[0])[None])
        windows = encoder(waveform)
    torch.testing.assert_close(windows[0, 10, 8], logits[0, 20])
    torch.testing.assert_close(windows[0, 10, 0], logits[0, 12])


def test_save_and_load(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)
    loaded = DeepSpeechEncoder.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.state_dict(), encoder.state_dict(), rtol=0, atol=0)


def test_it_can_be_trained(encoder):
    features = torch.stack([deepspeech_features(clip) for clip in clips(3_200)])
    loss = torch.nn.functional.cross_entropy(encoder.logits(features).flatten(0, 1), torch.zeros(20, dtype=torch.long))
    loss.backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_forget_gates_start_open(encoder):
    for name in ("bias_ih_l0", "bias_ih_l0_reverse"):
        assert (getattr(encoder.lstm, name)[8:16] == 1).all()

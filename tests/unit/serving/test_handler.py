"""The handler without a server: mixed batches, internal errors, clips that would exhaust memory."""

import json

import numpy as np
import pytest
import torch
from helpers.torchserve import encode, noise, probabilities, small_model
from ts.context import Context, RequestProcessor

from audiocnn.classifier import ModelError
from serving.torchserve import handler as handler_module
from serving.torchserve.handler import AudioCNNHandler


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("handler") / "model"
    return folder, small_model(folder, seed=1)


@pytest.fixture(scope="module")
def handler(model):
    handler = AudioCNNHandler()
    handler.initialize(make_context(model[0]))
    return handler


def make_context(folder, requests=0):
    manifest = {"model": {"modelName": "sounds", "modelVersion": "4.0"}, "registryVersion": 4}
    context = Context("sounds", str(folder), manifest, 8, None, "0.12.0")
    context.request_processor = [RequestProcessor({}) for _ in range(requests)]
    return context


def ask(handler, model, items):
    context = make_context(model[0], len(items))
    answers = [json.loads(text) for text in handler.handle(items, context)]
    return answers, [context.get_response_status(index)[0] for index in range(len(items))]


def test_responses_are_in_the_order_of_the_requests(handler, model):
    clips = [encode(noise(seed=seed)) for seed in range(3)]
    items = [
        {"body": clips[0]},
        {"data": b""},
        {"data": bytearray(clips[1])},
        {"body": b"not audio"},
        {"body": clips[2]},
    ]
    answers, statuses = ask(handler, model, items)
    assert statuses == [200, 400, 200, 415, 200]
    for answer, clip in zip((answers[0], answers[2], answers[4]), clips, strict=True):
        expected = probabilities(model[1], clip)
        served = {item["class"]: item["probability"] for item in answer["predictions"]}
        assert served == pytest.approx({label: expected[label] for label in served}, abs=1e-6)
        assert answer["model"]["version"] == 4


def test_a_model_of_the_recipe_strong_is_served(tmp_path):
    model = tmp_path / "model", small_model(tmp_path / "model", seed=1, recipe="strong")
    assert model[1].settings.rate == 44100 and model[1].network.architecture.squeeze_excitation
    handler, clip = AudioCNNHandler(), encode(noise(5.0))
    handler.initialize(make_context(model[0]))
    (answer,), statuses = ask(handler, model, [{"body": clip}])
    served = {item["class"]: item["probability"] for item in answer["predictions"]}
    expected = probabilities(model[1], clip)
    assert statuses == [200]
    assert served == pytest.approx({label: expected[label] for label in served}, abs=1e-6)


def test_valid_clips_of_a_batch_share_one_forward_pass(handler, model, monkeypatch):
    seen = []
    classify = handler.classifier.classify
    monkeypatch.setattr(handler.classifier, "classify", lambda waves: seen.append(len(waves)) or classify(waves))
    ask(handler, model, [{"body": encode(noise())}, {"body": b""}, {"body": encode(noise(seed=1))}])
    ask(handler, model, [{"body": b""}])
    assert seen == [2]


@pytest.mark.parametrize(
    ("item", "status"),
    [({}, 400), ({"sound": b"RIFF"}, 400), ({"body": {"a": 1}}, 415), ({"body": "a text"}, 415), ({"body": None}, 400)],
)
def test_request_without_a_clip_is_a_client_error(handler, model, item, status):
    answers, statuses = ask(handler, model, [item])
    assert statuses == [status]
    assert answers[0]["error"]


def test_internal_error_is_500_and_does_not_affect_other_requests(handler, model, monkeypatch):
    checked_waveform = handler_module.checked_waveform

    def faulty(sound, settings):
        if sound.rate == 8000:
            raise ZeroDivisionError("a bug")
        return checked_waveform(sound, settings)

    monkeypatch.setattr(handler_module, "checked_waveform", faulty)
    answers, statuses = ask(handler, model, [{"body": encode(noise(rate=8000), 8000)}, {"body": encode(noise())}])
    assert statuses == [500, 200]
    assert answers[0]["reason"] == "internal"
    assert "bug" not in answers[0]["error"]


def test_failure_of_the_network_is_raised(handler, model, monkeypatch):
    def broken(_waveforms):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(handler.classifier, "classify", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        ask(handler, model, [{"body": encode(noise())}])


def test_small_file_with_long_audio_is_refused_with_bounded_memory(handler, model):
    import tracemalloc

    bomb = encode(np.zeros((1800 * 8000, 8), np.int16), 8000, "FLAC")  # half an hour in eight channels
    tracemalloc.start()
    _, statuses = ask(handler, model, [{"body": bomb}])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert statuses == [413]
    # The limit of 600 s is 77 MB of 16-bit samples; the whole file would be 230 MB.
    assert len(bomb) < 2**20 and peak < 120e6


def test_silence_is_judged_on_what_the_network_is_given(handler, model):
    late = np.concatenate([np.zeros((6 * 44100, 1), np.float32), noise(4.0)])
    answers, statuses = ask(handler, model, [{"body": encode(late)}, {"body": encode(late[::-1])}])
    assert statuses == [422, 200]
    assert answers[0] == {
        "error": "the first 5 s of the clip, which the network is given, are silent",
        "reason": "silent",
    }


def test_header_with_a_false_length_is_reported_as_truncated(handler, model):
    flac = bytearray(encode(noise(), kind="FLAC"))
    total = int.from_bytes(flac[18:26], "big") >> 36 << 36  # the low 36 bits count the samples (RFC 9639, 8.2)
    flac[18:26] = (total | 2**36 - 1).to_bytes(8, "big")
    answers, statuses = ask(handler, model, [{"body": bytes(flac)}])
    assert (statuses, answers[0]["reason"]) == ([422], "truncated")


def test_flac_of_unknown_length_is_accepted(handler, model):
    flac = bytearray(encode(noise(), kind="FLAC"))
    flac[18:26] = (int.from_bytes(flac[18:26], "big") >> 36 << 36).to_bytes(8, "big")  # length unknown
    answers, statuses = ask(handler, model, [{"body": bytes(flac)}])
    assert statuses == [200]
    assert answers[0]["clip"]["seconds"] == 1.0


def test_modified_weights_are_not_loaded(model, tmp_path):
    folder = tmp_path / "tampered"
    folder.mkdir()
    for name in ("model.json", "model.safetensors"):
        (folder / name).write_bytes((model[0] / name).read_bytes())
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1] + b"\x01")
    with pytest.raises(ModelError, match="SHA-256"):
        AudioCNNHandler().initialize(make_context(folder))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer old"}, 200),
        ({"authorization": "Bearer new"}, 200),  # HTTP/2 proxies send names in lower case
        ({"Authorization": "Bearer ne"}, 401),
        ({"Authorization": "Bearer new old"}, 401),
        ({"Authorization": "Bearer clé"}, 401),
        ({"Authorization": "Basic new"}, 401),
        ({"Authorization": "new"}, 401),
        ({"Authorization": ""}, 401),
        ({}, 401),
    ],
)
def test_keys_of_the_environment_are_required(model, monkeypatch, headers, status):
    monkeypatch.setenv("AUDIOCNN_INFERENCE_KEYS", "new old")
    handler = AudioCNNHandler()
    handler.initialize(make_context(model[0]))
    context = make_context(model[0])
    context.request_processor = [RequestProcessor(headers), RequestProcessor({"Authorization": "Bearer new"})]
    answers = [json.loads(text) for text in handler.handle([{"body": encode(noise())}] * 2, context)]
    assert [context.get_response_status(index)[0] for index in range(2)] == [status, 200]
    assert ("reason" in answers[0], answers[0].get("reason")) == (
        status == 401,
        "unauthorized" if status == 401 else None,
    )


@pytest.mark.gpu
def test_gpu_and_cpu_give_the_same_answers(model):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    context = make_context(model[0])
    context.system_properties["gpu_id"] = 0
    handler = AudioCNNHandler()
    handler.initialize(context)
    assert handler.device.type == "cuda"
    clip = encode(noise())
    answers, _ = ask(handler, model, [{"body": clip}])
    expected = probabilities(model[1], clip)
    for item in answers[0]["predictions"]:
        assert item["probability"] == pytest.approx(expected[item["class"]], abs=1e-4)

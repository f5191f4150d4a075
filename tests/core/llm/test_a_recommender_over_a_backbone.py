"""A recommender over a pretrained language model: gathered prompts, an adapter, checkpoints without the base."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.errors import RecloomError
from recloom.llm import Backbone, PromptTemplate, Slot, TokenPrompt
from recloom.recommender import Queries, VectorRecommender
from recloom.runs.add_items import write
from recloom.runs.run import Run, restore
from recloom.testing.toys import toy_dataset
from recloom.testing.training import requests, train
from recloom.training.checkpoint import read_checkpoint
from torch import nn

pytestmark = pytest.mark.skipif(find_spec("peft") is None, reason="the extra transformers is not installed")

FIELDS = {"type": "lines", "max_items": 6, "max_chars": 40}
SEEN = PromptTemplate(name="seen", user="Seen:\n{seen}\nNext:", fields={"seen": FIELDS})
ITEM = PromptTemplate(name="item", user="Item:\n{item}", fields={"item": {"type": "text", "max_chars": 40}})


class PromptVectors(VectorRecommender):
    """Reads histories and items as prompts; both vectors are hidden vectors of one language model."""

    default_loss = "CrossEntropy"

    def __init__(self, catalog, model=""):
        import transformers

        super().__init__(catalog)
        self.backbone = Backbone(model, train="lora")
        self.codes = self.backbone.add_tokens(1)
        self.out = nn.Linear(self.backbone.dim, 8)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        self.read(catalog)

    def read(self, catalog):
        self.seen = TokenPrompt(SEEN, self.tokenizer, catalog, {"seen": Slot("history")}, max_tokens=90)
        self.item = TokenPrompt(ITEM, self.tokenizer, catalog, {"item": Slot("candidate")})

    def encode(self, tokens):
        hidden = self.backbone(tokens.tokens, tokens.positions, tokens.mask)
        return self.out(hidden.flatten(0, 1)[tokens.answer])

    def query(self, batch):
        return self.encode(self.seen.assemble(batch))

    def item_vectors(self):
        every = torch.arange(self.num_items + 1)[None]
        return self.encode(self.item.assemble(Batch.of(torch.zeros(1, 1, dtype=torch.long), every)))

    def training_queries(self, batch):
        label = batch.labels[:, -1]
        return Queries(
            self.query(batch)[label > 0], label[label > 0], self.item_vectors(), batch.user[label > 0]
        )

    def parameter_groups(self, lr):
        adapter = [one for one in self.backbone.parameters() if one.requires_grad]
        return [{"params": adapter, "lr": lr / 10}, {"params": [*self.out.parameters()]}]

    def external_weights(self):
        return {"backbone.": self.backbone.pretrained()}

    def extend(self, catalog):
        self.read(catalog)
        self.num_items = catalog.num_items


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_dataset(tmp_path_factory.mktemp("toy") / "toy")


@pytest.fixture(scope="module")
def model(tmp_path_factory, train_tokenizer):
    """A random Llama of 2 layers and its tokeniser, in a folder."""
    import transformers

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = train_tokenizer(
        [f"Seen:\n- {word} field" for word in ("amber", "birch", "coral")], r" ?\p{L}+|\s|.", 300
    )
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=128,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def runs(toy, model, tmp_path_factory):
    """Six steps in one go with a checkpoint after four, and its end."""
    folder = tmp_path_factory.mktemp("runs")
    whole = train(PromptVectors, {"model": str(model)}, toy, steps=6, save=(4, folder / "part.ckpt"))
    whole.trainer.save_checkpoint(folder / "checkpoints" / "last.ckpt")
    return whole, folder


def test_a_checkpoint_holds_the_adapter_alone(runs, model):
    _, folder = runs
    state = read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
    below = {name for name in state if name.startswith("recommender.backbone.")}
    assert len(below) == 2 * 2 * 2 + 2  # layers, queries and values, A and B; added rows of input and output
    assert all(".lora_" in name or ".added" in name for name in below)
    trained = restore(read_checkpoint(folder / "checkpoints" / "last.ckpt")).recommender
    fresh = Backbone(str(model))
    own = dict(trained.backbone.model.named_parameters())
    for name, one in fresh.model.named_parameters():
        kept = name if name in own else name.replace(".weight", ".base_layer.weight")
        assert torch.equal(own[kept], one)
    assert any(float(one.detach().abs().sum()) for name, one in own.items() if "lora_B" in name)


def test_what_is_loaded_scores_as_what_was_saved(runs):
    module, folder = runs
    batch = requests(module.trainer.datamodule.train)
    again = restore(read_checkpoint(folder / "checkpoints" / "last.ckpt")).eval()
    with torch.no_grad():
        scores = [one.recommender.eval().score(batch) for one in (module, again)]
    torch.testing.assert_close(*scores)
    assert scores[0].std() > 0


def test_two_groups_have_two_learning_rates(runs):
    module, _ = runs
    groups = module.trainer.optimizers[0].param_groups
    assert [group["lr"] for group in groups] == pytest.approx([1e-3, 1e-2])
    assert [len(group["params"]) for group in groups] == [10, 2]


def test_resumed_training_equals_the_uninterrupted_run(runs, toy, model):
    whole, folder = runs
    resumed = train(PromptVectors, {"model": str(model)}, toy, steps=6, resume=folder / "part.ckpt")
    state, other = whole.state_dict(), resumed.state_dict()
    assert state.keys() == other.keys()
    for name, value in state.items():
        torch.testing.assert_close(value, other[name], atol=1e-6, rtol=1e-5, msg=name)
    part = read_checkpoint(folder / "part.ckpt")["state_dict"]
    assert any(not torch.equal(value, state[name]) for name, value in part.items() if ".lora_" in name)


def test_another_base_folder_is_refused(runs, model):
    _, folder = runs
    config = model / "generation_config.json"
    before = config.read_text()
    config.write_text(before.replace("{", '{"top_k": 1, ', 1))
    try:
        with pytest.raises(RecloomError, match=r"the pretrained weights in .* changed"):
            restore(read_checkpoint(folder / "part.ckpt"))
    finally:
        config.write_text(before)
    restore(read_checkpoint(folder / "part.ckpt"))


def test_new_items_come_without_the_base_and_old_scores_stay(runs, tmp_path):
    module, folder = runs
    batch = requests(module.trainer.datamodule.train)
    grown = restore(read_checkpoint(folder / "checkpoints" / "last.ckpt")).eval()
    with torch.no_grad():
        before = grown.recommender.score(batch)
    new = pl.DataFrame({"item_id": ["n1", "n2"], "title": ["amber birch 99", "coral"]})
    grown.extend(grown.catalog.extended(new))
    (folder / "config.yaml").write_text("")
    record = SimpleNamespace(model_dump_json=lambda indent: "{}")
    write(tmp_path / "grown", Run(folder, grown), record)
    (file,) = (tmp_path / "grown" / "checkpoints").iterdir()
    saved = read_checkpoint(file)
    assert not [name for name in saved["state_dict"] if "base_layer" in name or "embed_tokens" in name]
    again = restore(saved).eval()
    assert again.recommender.num_items == grown.catalog.num_items == before.shape[1] + 2
    batch.candidates = torch.arange(1, before.shape[1] + 3)[None]
    with torch.no_grad():
        after = again.recommender.score(batch)
    torch.testing.assert_close(after[:, :-2], before)
    assert torch.isfinite(after).all()

"""A pretrained model as a part of a recommender: what it computes, what is trained, what it was before."""

import copy
import math
from importlib.util import find_spec

import pytest
import torch
from recloom.errors import RecloomError
from recloom.llm.local.backbone import Backbone
from recloom.llm.local.weights import LoRA

pytestmark = pytest.mark.skipif(find_spec("peft") is None, reason="the extra transformers is not installed")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A random Llama of 4 layers."""
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, tie_word_embeddings=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("llama")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    """A random T5 of 2 and 2 layers."""
    import transformers

    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0, eos_token_id=1,
        initializer_factor=1.0,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("t5")
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A random RoBERTa of 2 layers, whose positions begin behind its padding token."""
    import transformers

    torch.manual_seed(0)
    config = transformers.RobertaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=40, pad_token_id=1, initializer_range=0.3,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("bert")
    transformers.RobertaModel(config).save_pretrained(folder)
    return folder


ROWS = [[5, 6, 7, 8, 9], [11, 12, 13]]


def left():
    return torch.tensor([ROWS[0], [2, 2, *ROWS[1]]]), torch.tensor([[1] * 5, [0, 0, 1, 1, 1]])


@torch.no_grad()
def test_a_causal_model_computes_what_transformers_computes_however_rows_are_laid_out(llama):
    import transformers

    mine, theirs = (
        Backbone(str(llama)).eval(),
        transformers.AutoModelForCausalLM.from_pretrained(llama).eval(),
    )
    alone = [theirs(torch.tensor([row])).logits[0] for row in ROWS]
    tokens, mask = left()
    padded = mine.logits(mine(tokens, mask=mask))
    torch.testing.assert_close(padded[0], alone[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(padded[1, 2:], alone[1], atol=1e-5, rtol=1e-4)
    packed = torch.tensor([ROWS[0] + ROWS[1]])
    sequence = torch.tensor([1] * 5 + [2] * 3)
    own = (sequence[:, None] == sequence) & torch.ones(8, 8, dtype=torch.bool).tril()
    positions = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2]])
    for pairs in (own[None], own[None, None]):
        found = mine.logits(mine(packed, positions, pairs))[0]
        torch.testing.assert_close(found, torch.cat(alone), atol=1e-5, rtol=1e-4)
    ids = torch.tensor([3, 40])
    torch.testing.assert_close(
        mine.logits(mine(tokens, mask=mask), ids), padded[..., ids], atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
def test_a_shared_prefix_is_computed_once(llama):
    model = Backbone(str(llama)).eval()
    tokens, mask = left()
    prefix = model.cache(tokens, mask=mask)
    rest = torch.tensor([[20, 21], [22, 2], [23, 24]])
    owner, rest_mask = torch.tensor([0, 1, 1]), torch.tensor([[1, 1], [1, 0], [1, 1]])
    for _ in range(2):  # the prefix is left as it was
        found = model(rest, mask=rest_mask, prefix_kv=prefix.rows(owner))
        whole = model(torch.cat([tokens[owner], rest], 1), mask=torch.cat([mask[owner], rest_mask], 1))[:, 5:]
        torch.testing.assert_close(found[rest_mask > 0], whole[rest_mask > 0], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_layers_in_two_ranges_are_all_of_them(llama):
    model = Backbone(str(llama)).eval()
    tokens, mask = left()
    low = model(tokens, mask=mask, layers=slice(0, 2))
    both = model(embeds=low, mask=mask, layers=slice(2, None))
    torch.testing.assert_close(both[mask > 0], model(tokens, mask=mask)[mask > 0], atol=1e-5, rtol=1e-4)
    assert len(model.model.model.layers) == 4
    with pytest.raises(RecloomError, match="layers is a range of 0 to 4 with step 1"):
        model(tokens, layers=slice(3, 1))


@torch.no_grad()
def test_an_encoder_computes_what_transformers_computes(bert):
    import transformers

    mine, theirs = Backbone(str(bert), "encoder").eval(), transformers.AutoModel.from_pretrained(bert).eval()
    for tokens, mask in (left(), (torch.tensor([ROWS[0]]), None)):
        found = mine(tokens, mask=mask)[0]
        wanted = theirs(torch.tensor([ROWS[0]])).last_hidden_state[0]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    shown = mine(
        *[torch.tensor([row]) for row in (ROWS[0] + ROWS[1], [0, 1, 2, 3, 4, 0, 1, 2])], mask=blocks(5, 3)
    )
    torch.testing.assert_close(shown[0, :5], wanted, atol=1e-5, rtol=1e-4)
    for call in (
        lambda: mine.logits(shown),
        lambda: mine.cache(tokens),
        lambda: mine.decode(shown, tokens, tokens),
    ):
        with pytest.raises(
            RecloomError, match=r"an encoder has no logits|cached for causal models|for seq2seq models"
        ):
            call()
    with pytest.raises(RecloomError, match="ranges of layers are for causal models"):
        mine(tokens, layers=slice(1))


def blocks(*sizes):
    return torch.block_diag(*[torch.ones(n, n) for n in sizes])[None] > 0


@torch.no_grad()
def test_an_encoder_decoder_computes_what_transformers_computes(t5):
    import transformers

    mine, theirs = (
        Backbone(str(t5), "seq2seq").eval(),
        transformers.AutoModelForSeq2SeqLM.from_pretrained(t5).eval(),
    )
    tokens, mask = torch.tensor([ROWS[0], [*ROWS[1], 0, 0]]), torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])
    target = torch.tensor([[30, 31, 32, 1], [33, 34, 1, 0]])
    found = mine.logits(mine.decode(mine(tokens, mask=mask), mask, target))
    for row, size, steps in ((0, 5, 4), (1, 3, 3)):
        wanted = theirs(tokens[row : row + 1, :size], labels=target[row : row + 1, :steps]).logits[0]
        torch.testing.assert_close(found[row, :steps], wanted, atol=1e-4, rtol=1e-4)
    ids = torch.tensor([1, 30])
    some = mine.logits(mine.decode(mine(tokens, mask=mask), mask, target), ids)
    torch.testing.assert_close(some, found[..., ids], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("train", ["frozen", "lora", "dora", "full"])
def test_what_is_trained_is_what_was_asked_for(llama, train):
    import transformers

    torch.manual_seed(0)
    model = Backbone(str(llama), train=train, checkpointing=train == "lora")
    tokens, mask = left()
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    base = model.logits(model.eval()(tokens, mask=mask)).detach()
    plain = transformers.AutoModelForCausalLM.from_pretrained(llama).eval()
    torch.testing.assert_close(base[0], plain(tokens[:1]).logits[0], atol=1e-5, rtol=1e-4)  # B = 0
    trained = {name for name, one in model.named_parameters() if one.requires_grad}
    if train == "frozen":
        assert not trained
        return
    model.train()
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        logits = model.logits(model(tokens, mask=mask))
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
    changed = {name for name, one in model.named_parameters() if not torch.equal(one, before[name])}
    assert changed
    if train == "full":
        assert "model.lm_head.weight" in changed
    else:
        assert changed == trained
        assert all("lora_" in name for name in trained)
        count = sum(
            one.numel() for name, one in model.named_parameters() if "lora_A" in name or "lora_B" in name
        )
        assert count == 4 * 8 * ((16 + 16) + (16 + 8))  # layers, rank, and in + out of queries and values
        assert any("magnitude" in name for name in trained) == (train == "dora")
    assert not torch.allclose(model.eval()(tokens, mask=mask), base[..., :16])


@pytest.mark.parametrize(
    ("train", "kind"), [("lora", "causal"), ("dora", "causal"), ("full", "causal"), ("lora", "seq2seq")]
)
def test_the_reference_is_the_policy_as_it_was_when_it_was_marked(llama, t5, train, kind):
    torch.manual_seed(0)
    model = Backbone(str(llama if kind == "causal" else t5), kind, train=train)
    codes = model.add_tokens(3)
    assert codes.tolist() == [50, 51, 52]
    tokens = torch.tensor([[5, 50, 51, 52]])

    def logits():
        hidden = model(tokens)
        hidden = model.decode(hidden, torch.ones_like(tokens), tokens) if kind == "seq2seq" else hidden
        return model.logits(hidden)

    def step():
        optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.5)
        loss = torch.nn.functional.cross_entropy(logits()[0], tokens[0])
        with model.reference():
            logits()  # between forward and backward, as in preference training
        loss.backward()
        optimizer.step()

    with (
        pytest.raises(RecloomError, match=r"no reference policy yet; call mark_reference\(\)"),
        model.reference(),
    ):
        pass
    model.mark_reference()
    for _ in range(2):
        step()
    model.eval()
    then = logits().detach()
    model.mark_reference()  # the policy moved on before preference training began
    with model.reference():
        torch.testing.assert_close(logits(), then)
    model.train()
    step()
    model.eval()
    assert (logits() - then).abs().max() > 1e-3
    with model.reference():
        found = logits()
    torch.testing.assert_close(found, then)
    assert not found.requires_grad
    assert logits().requires_grad
    names = [name for name, one in model.named_parameters() if one.requires_grad]
    assert not [name for name in names if "reference" in name]


def test_added_tokens_are_rows_of_their_own(llama, t5):
    torch.manual_seed(0)
    for folder, kind in ((llama, "causal"), (t5, "seq2seq")):
        model = Backbone(str(folder), kind).eval()
        old = model(torch.tensor([[5, 6]])).detach()
        ids = torch.cat([model.add_tokens(2), model.add_tokens(1)])
        assert ids.tolist() == [50, 51, 52]
        torch.testing.assert_close(model(torch.tensor([[5, 6]])), old)
        hidden = model(torch.tensor([[5, 51]]))
        logits = model.logits(hidden)
        assert logits.shape[-1] == 53
        chosen = torch.tensor([52, 4, 50])
        torch.testing.assert_close(model.logits(hidden, chosen), logits[..., chosen], atol=1e-5, rtol=1e-4)
        logits.sum().backward()
        assert model.added.grad.abs().sum(1)[1] > 0
        assert [name for name, one in model.named_parameters() if one.requires_grad] == (
            ["added", "added_out"] if model.added_out is not None else ["added"]
        )
        mean = model.model.get_input_embeddings().weight.mean(0)
        assert (model.added - mean).abs().max() < 0.6 * model.model.get_input_embeddings().weight.std()


def test_two_checkpoints_of_an_adapter_hold_no_weight_of_the_folder(llama):
    model = Backbone(str(llama), train="lora")
    model.add_tokens(2)
    model.mark_reference()
    source = model.pretrained()
    kept = [name for name in model.state_dict() if name.startswith(source.kept)]
    assert {name.split(".")[0] for name in kept} == {
        "added",
        "added_out",
        "reference_added",
        "reference_added_out",
        "model",
    }
    assert all(".reference" in name for name in kept if name.startswith("model."))
    assert len([name for name in kept if name.startswith("model.")]) == 4 * 2 * 2
    torch.manual_seed(1)
    other = Backbone(str(llama), train="lora")
    with torch.no_grad():
        for name, one in model.named_parameters():
            if "lora_B" in name:
                one.normal_()
    torch.testing.assert_close(source.probe(source.inputs), other.pretrained().probe(source.inputs))
    assert source.fingerprint == other.fingerprint


def test_what_is_not_supported_is_said(llama, t5, bert, tmp_path):
    import transformers

    causal, tokens = Backbone(str(llama)), torch.tensor([[5, 6]])
    with pytest.raises(RecloomError, match="kind is one of causal, encoder, seq2seq; found 'other'"):
        Backbone(str(llama), "other")
    with pytest.raises(RecloomError, match="no causal model could be loaded"):
        Backbone(str(tmp_path))
    with pytest.raises(RecloomError, match="give one of the two"):
        causal()
    with pytest.raises(RecloomError, match="says no positions"):
        causal(tokens, mask=torch.ones(1, 2, 2))
    with pytest.raises(RecloomError, match="prefixes and ranges of layers are for causal models"):
        Backbone(str(t5), "seq2seq")(tokens, prefix_kv=causal.cache(tokens))
    with pytest.raises(RecloomError, match=r"no adapter could be put into LlamaForCausalLM.*LoRA\(targets"):
        Backbone(str(llama), train="lora", lora=LoRA(targets=("nothing",)))
    causal.model.config.sliding_window, causal.model.config.layer_types = (
        4,
        ["sliding_attention", "full_attention"],
    )
    with pytest.raises(RecloomError, match="read the last 4 tokens only, and the sequence has 5"):
        causal(left()[0])
    with pytest.raises(RecloomError, match="differ in kind"):
        causal(tokens, layers=slice(2))
    gpt2 = transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2)
    transformers.GPT2LMHeadModel(gpt2).save_pretrained(tmp_path)
    with pytest.raises(RecloomError, match="such as Llama, Qwen or Gemma; GPT2Model has not"):
        Backbone(str(tmp_path))(tokens, layers=slice(1))


@pytest.mark.slow
@torch.no_grad()
def test_smollm2_answers_behind_a_shared_prefix_as_behind_the_whole(smollm2_folder):
    import transformers

    model = Backbone(str(smollm2_folder), train="lora").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2_folder)
    beginning = tokenizer("Q: Is Paris the capital of France?\nA: Yes\n", return_tensors="pt")["input_ids"]
    rest = tokenizer(["Q: Is Rome in Italy?\nA:", "Q: Is Rome in Spain?\nA:"], return_tensors="pt")[
        "input_ids"
    ]
    answers = torch.tensor([tokenizer(" Yes")["input_ids"][0], tokenizer(" No")["input_ids"][0]])
    prefix = model.cache(beginning).rows(torch.tensor([0, 0]))
    found = model.logits(model(rest, prefix_kv=prefix)[:, -1], answers)
    whole = torch.cat([beginning.expand(2, -1), rest], 1)
    plain = transformers.AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype="float32").eval()
    wanted = plain(whole).logits[:, -1, answers]
    torch.testing.assert_close(found, wanted, atol=2e-3, rtol=1e-3)
    assert math.isfinite(float(found.sum()))


@pytest.mark.slow
@torch.no_grad()
def test_minilm_gives_the_vectors_of_its_own_library(minilm_folder):
    import transformers

    model = Backbone(str(minilm_folder), "encoder").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm_folder)
    read = tokenizer(
        ["Heat (1995)", "A much longer title: the return of the king"], padding=True, return_tensors="pt"
    )
    found = model(read["input_ids"], mask=read["attention_mask"])
    plain = copy.deepcopy(model.model)
    for row in range(2):
        size = int(read["attention_mask"][row].sum())
        wanted = plain(read["input_ids"][row : row + 1, :size]).last_hidden_state[0]
        torch.testing.assert_close(found[row, :size], wanted, atol=1e-4, rtol=1e-3)
    pooled = (found * read["attention_mask"][..., None]).sum(1) / read["attention_mask"].sum(1, keepdim=True)
    assert pooled.shape == (2, 384)

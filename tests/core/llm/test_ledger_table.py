"""What `recloom llm show` prints."""

from __future__ import annotations

from recloom.cli import main as cli
from recloom.llm.ledger.store import Ledger
from recloom.llm.requests import LLMRequest, LLMResponse


def test_what_a_ledger_holds_fits_eighty_columns_with_prompts_that_can_be_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    kept = Ledger("llm-ledger.sqlite")
    prompts = ("recommendation-reason@0123456789abcdef", "summarize-update@fedcba9876543210", "plain")
    for model in ("gpt-4o-mini", "models/" + "x" * 300):
        for prompt in prompts:
            identity = {"base_url": model[:1], "class": "OpenAIChat", "model": model}
            asked = LLMRequest(({"role": "user", "content": "?"},), prompt)
            kept.put(asked.key(identity), identity, asked, LLMResponse(("a",), (), 123_456_789, 1_234_567))
    cli.main(["llm", "show"])
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].rstrip() == "llm-ledger.sqlite: 6 responses"
    assert max(map(len, shown)) <= 80
    assert sum(line.startswith("OpenAIChat gpt-4o-mini") for line in shown) == 1
    for prompt in ("summarize-update@fedcba98", "plain"):
        rows = [line.split() for line in shown if line.startswith(prompt)]
        assert [row[:4] for row in rows] == [[prompt, "1", "123,456,789", "1,234,567"]] * 2
    assert sum(line.startswith("recommendation-reason@") for line in shown) == 2

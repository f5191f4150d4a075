import subprocess
import sys

from recloom.cli import main as cli
from recloom.llm.prompts import load_prompts
from recloom.plugins import collect_with_owner


def test_recommender_and_encoder_are_registered():
    assert collect_with_owner("register_models")["TextMean"][1] == "feature"
    assert collect_with_owner("register_language_models")["SentenceTransformers"][1] == "feature"


def test_importing_the_plugin_and_its_encoder_imports_no_torch():
    code = (
        "import recloom_feature, recloom_feature.encoders.sentence_transformers, sys;"
        "assert not {'torch', 'sentence_transformers'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_prompt_is_listed_with_a_line_of_its_own(capsys):
    cli.main(["list", "prompts"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "[feature]" in line]
    assert len(lines) >= 12
    told = {line[26:].partition(" [feature]")[0] for line in lines}
    assert len(told) == len(lines)
    assert all(len(line) <= 80 for line in lines)
    written = {
        prompt.name for prompt in load_prompts("recloom_feature") if "about" in prompt.model_fields_set
    }
    assert written == {line.split()[0] for line in lines}

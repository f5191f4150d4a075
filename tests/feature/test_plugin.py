import subprocess
import sys

from recloom.plugins import collect_with_owner


def test_recommender_and_encoder_are_registered():
    assert collect_with_owner("register_models")["TextMean"][1] == "feature"
    assert collect_with_owner("register_language_models")["SentenceTransformers"][1] == "feature"


def test_importing_the_plugin_and_its_encoder_imports_no_torch():
    code = (
        "import recloom_feature, recloom_feature.sentence_transformers, sys;"
        "assert not {'torch', 'sentence_transformers'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

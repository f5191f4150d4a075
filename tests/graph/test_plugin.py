import subprocess
import sys

from recloom.plugins import collect_with_owner


def test_both_recommenders_are_registered():
    owners = {name: owner for name, (_, owner) in collect_with_owner("register_models").items()}
    assert owners["LightGCN"] == owners["PersonalizedPageRank"] == "graph"


def test_importing_the_plugin_imports_no_torch():
    code = "import recloom_graph, sys; assert not {'torch', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

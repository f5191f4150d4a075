import subprocess
import sys

from recloom.plugins import collect_with_owner


def test_both_recommenders_are_registered():
    owners = {name: owner for name, (_, owner) in collect_with_owner("register_models").items()}
    assert owners["LightGCN"] == owners["PersonalizedPageRank"] == "graph"


def test_importing_the_plugin_imports_no_torch():
    code = "import recloom_graph, sys; assert not {'torch', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_property_models_are_registered_as_modules_also_where_pyg_is_absent(warm_python):
    code = (
        "import sys; sys.modules['torch_geometric'] = None\n"
        "from recloom.plugins import collect_with_owner\n"
        "found = collect_with_owner('register_modules')\n"
        "assert {name: owner for name, (_, owner) in found.items()}['NodeProperty'] == 'graph'\n"
        "from recloom.errors import RecloomError\n"
        "try: found['NodeProperty'][0]().build(3, 2)\n"
        "except RecloomError as error: assert 'recloom-graph[pyg]' in str(error)\n"
        "else: raise AssertionError\n"
    )
    done = warm_python.run("-c", code)
    assert done.returncode == 0, done.stderr

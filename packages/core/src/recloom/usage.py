"""What `recloom fit --help` and its like print: what is used every day. `--help-all` lists every option."""

from __future__ import annotations

FIT = """\
usage: recloom fit --model NAME --data DIR [options]
       recloom fit --config FILE [options]
       recloom fit --run RUN --ckpt_path last

Train a recommender on a prepared dataset, or another module on data of its own
(`recloom list modules`). A run is one folder, by default runs/DATA/MODEL.

Which (`recloom list` shows what is installed):
  --model NAME                  recommender, such as SASRec, EASE or LightGCN
  --model.recommender.dim 64    an option of it; --model.recommender.help NAME
                                explains them all
  --model.loss NAME             loss; by default the recommender's own
  --config FILE                 YAML with any of these; --print_config writes it

Data:
  --data DIR                    made by `recloom data prepare` or `data synth`
  --data.split.strategy last    last, time, random, users (`data split --help`)
  --data.candidates all         what is ranked: all; impressions; rated (what is
                                held out, with labels); uniform-N or popular-N
                                (marked as sampled)
  --data.seen masked            kept: items of the history may come again
  --data.vectors FILE           vectors of items, made by `recloom embed`
  --data.user_vectors FILE      the same of users
  --data.positive 4             click models: positive from this value on
  --data.known_first 30         click models: texts may tell of a user's first
                                half, 30 at most, which is not learnt from
  --data.windows all            last: only the ends of long histories are used
  --data.batch_size 128         training rows of a batch

How:
  --model.lr 0.001              learning rate of AdamW
  --model.metrics ndcg@10,mrr   what is measured; watched is ndcg@10, else the
                                first
  --trainer.max_epochs 50       epochs at most
  --early_stopping.patience 10  epochs without a better one; null: never stop
  --trainer.accelerator auto    cpu, gpu, ...; as in Lightning
  --seed_everything 0           of everything random

Where:
  --run DIR                     folder of the run
  --overwrite                   replace what a finished fit left there
  --ckpt_path last              go on with an interrupted fit; needs only --run

Examples:
  recloom fit --model EASE --data data/movies
  recloom fit --model SASRec --data data/movies --model.loss GBCE --run runs/a
  recloom fit --config configs/ml-1m/sasrec.yaml --data data/ml-1m
"""
MEASURE = """\
usage: recloom {verb} RUN [options]

{what}

  RUN                             folder of a run
  --data DIR                      the dataset, where it is not where the run
                                  was trained from
  --ckpt_path FILE                a checkpoint; by default the best, else the
                                  last
  --model.metrics ndcg@5,hit@20   other metrics than the run was trained with
  --data.candidates all           other candidates: all, impressions, rated,
                                  uniform-N, popular-N
  --data.seen masked              kept: items of the history may be recommended
                                  again
  --trainer.accelerator auto      cpu, gpu, ...

Example:
  recloom {verb} runs/movies/SASRec
"""
WHAT = {
    "validate": "Measure a run on the validation part. Prints the figures and writes nothing.",
    "test": "Measure a run on the test part. Prints the metrics with 95 % intervals, in all\n"
    "and by warm, cold and tail items, and writes metrics.json and\n"
    "per_user_test.parquet into the run, which `recloom compare` reads.",
    "predict": "Rank for the requests of the test part. Writes predictions.parquet into the\n"
    "run: user_id, item_id, score and rank of the ten best. For every user, after\n"
    "all they met: `recloom recommend RUN --all`.",
}
LIGHTNING = {
    "fit": "Train a recommender on a prepared dataset.",
    "validate": "Measure a run on the validation part.",
    "test": "Measure a run on the test part, with intervals.",
    "predict": "Rank for the requests of the test part and write the lists to Parquet.",
}
HELP = {"-h", "--help"}
ALL = "--help-all"


def usage(verb: str) -> str:
    """The short help of `fit`, `validate`, `test` or `predict`."""
    text = FIT if verb == "fit" else MEASURE.format(verb=verb, what=WHAT[verb])
    return f"{text}\n{ALL} lists every option, those of Lightning included."

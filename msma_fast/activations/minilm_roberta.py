"""all-MiniLM-L6-v2's weights in a RobertaModel: a RoBERTa to analyse where only MiniLM's package is installed.

BERT and RoBERTa run the same blocks. They differ in where positions start: token i of a text has row i of BERT's table, and
row padding_idx + 1 + i of RoBERTa's, which keeps row padding_idx for padding (Liu et al. 2019's code, and
RobertaEmbeddings in transformers). MiniLM pads with 0, so that one row of zeros in front of its table is all it takes.
"""

from __future__ import annotations

import torch

from msma_fast.activations.embedded import Loaded, load_minilm
from msma_fast.activations.optional import require

_TABLE = "embeddings.position_embeddings.weight"


def load_minilm_roberta(dtype: torch.dtype = torch.bfloat16) -> Loaded:
    """MiniLM as a RobertaModel: the same hidden states at every token, to rounding. Raises ImportError without the package.

    Not a model that was trained as a RoBERTa: what is found in it is found in MiniLM too.
    """
    transformers = require("transformers", "loading a model")
    bert, tokenizer, info = load_minilm(dtype)
    kept = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "hidden_act",
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "type_vocab_size",
        "initializer_range",
        "layer_norm_eps",
    )
    padding = int(bert.config.pad_token_id)
    front = padding + 1
    config = transformers.RobertaConfig(
        **{name: getattr(bert.config, name) for name in kept},
        max_position_embeddings=bert.config.max_position_embeddings + front,
        pad_token_id=padding,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
    )
    weights = bert.state_dict()
    table = weights[_TABLE]
    weights[_TABLE] = torch.cat([table.new_zeros(front, table.shape[1]), table])
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced at once
        model = transformers.RobertaModel(config).to(dtype).eval()
    model.load_state_dict(weights)
    info = {**info, "name": "all-MiniLM-L6-v2's weights as RobertaModel"}
    model.config.msma_fast_source = info
    return model, tokenizer, info

#!/bin/sh
# Everything before training: tokenizer, its cases, the corpus as tokens, and (on a GPU) the kernels held to their plain forms.
#   prepare.sh DATA WORK        DATA = the jsonl.xz files; WORK receives tok/ and corpus/
set -e
cd "$(dirname "$0")"
data=$1 work=$2
mkdir -p "$work"
[ -f "$work/tok/tokenizer.json" ] || python3 tokenizer.py train "$data" "$work/tok"
python3 tokenizer.py cases "$work/tok"
[ -f "$work/corpus/docs.json" ] || python3 -m data.corpus "$data" "$work/tok" "$work/corpus"

#!/bin/sh
# From the data to the shipped folder and its table, on every GPU of the machine.
#   all.sh DATA WORK [TOKENIZER_DIR]     WORK receives tok/ corpus/ run/ nano/ table.json (as shipped, sparse) compare.json (dense)
# Resumes from WORK/run/last.pt or WORK/run/compact where one is there.
set -e
cd "$(dirname "$0")"
data=$1 work=$2
mkdir -p "$work/tok" "$work/run"
[ -z "$3" ] || cp "$3"/tokenizer*.json "$work/tok/"
./prepare.sh "$data" "$work"
gpus=$(nvidia-smi -L | wc -l)
resume=""
[ ! -d "$work/run/compact" ] || resume="--resume $work/run/compact"
[ ! -f "$work/run/last.pt" ] || resume="--resume $work/run/last.pt"
torchrun --nproc-per-node "$gpus" train.py --corpus "$work/corpus" --tokenizer "$work/tok" --into "$work/run" --workers 14 $resume
python3 export.py --model "$work/run/last.pt" --out "$work/nano"
cp "$work"/tok/tokenizer* "$work/nano/"
check() {
    torchrun --nproc-per-node "$gpus" evaluate.py --corpus "$work/corpus" --model "$1" --tokenizer "$work/tok" --checks "$2" --out "$work/$3"
}
check "$work/nano" ship table.json
check "$work/nano" compare compare.json

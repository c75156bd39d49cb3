#!/usr/bin/env bash
# The main job on one folder: warm start, mine, fine-tune, and the baselines that mining has to beat.
#
#     bash examples/pipeline.sh FOLDER [OUT]
#
# FOLDER   a data set made by `samsemi prepare`, or a folder with images/ and masks/
# OUT      where runs, stores and evaluations go (default: FOLDER.samsemi)
#
# Every arm sees the same number of images from the same warm start:
#     labeled-only   fine-tuning on the labeled cases alone
#     self-training  ... and on the U-Net++'s own masks of the unlabeled cases
#     mined          ... and on SAM's masks of them, mined once; by a SAM adapted to the labeled cases where ADAPT is set
#     continuous     ... mined again every quarter of the fine-tuning
#
# Stopped at any moment, the same command goes on. Settings are environment variables, here with their defaults:
: "${SAM:=tiny}"                      # any backend of `samsemi mine --sam`, with SAM_CHECKPOINT where it needs one
: "${ADAPT:=}" "${FOLDS:=}"           # options of `samsemi adapt`, such as --all; folds of the warm start, whose masks SAM then learns to mend
: "${ARMS:=labeled-only self-training mined}"
: "${SIZE:=256}" "${ENCODER:=resnet34}" "${DECODER:=256,128,64,32,16}" "${WEIGHTS:=none}"
: "${ITERATIONS:=2000}" "${FINETUNE_ITERATIONS:=2000}" "${BATCH:=8}" "${LR:=1e-3}" "${SEED:=0}"
: "${PREPARE:=--labeled 0.1 --val 0.1 --test 0.1}"
# 900 images of Kvasir-SEG take half an hour with the settings below.
# On a CPU: SIZE=128 ENCODER=mobilenet_v2 DECODER=48,32,16,12,8 ITERATIONS=700 FINETUNE_ITERATIONS=600 OMP_NUM_THREADS=1
set -euo pipefail

folder=${1:?"usage: bash examples/pipeline.sh FOLDER [OUT]"}
out=${2:-${folder%/}.samsemi}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"

before=
stage() {  # NAME COMMAND...: run a command and note its seconds; what was done by the same commands up to here is not run again
    local name=$1 start=$SECONDS key
    shift
    key=$(printf '%s ' "$before" "$@" | cksum | cut -d' ' -f1)
    before=$key
    if grep -q "^$name,[0-9]*,$key$" "$out/seconds.csv" 2>/dev/null; then return; fi
    echo "== $name: $*" >&2
    "$@" || exit $?
    echo "$name,$((SECONDS - start)),$key" >>"$out/seconds.csv"
}

finetune() {  # ARM [OPTIONS...]
    local arm=$1
    shift
    stage "finetune $arm" samsemi finetune "$data" --model "$out/warm" --out "$out/$arm" --iterations "$FINETUNE_ITERATIONS" \
        --batch-size "$BATCH" --lr "$LR" --seed "$SEED" --resume "$@"
}

mine() {  # NAME SAM [OPTIONS...]
    local name=$1 sam=$2
    shift 2
    stage "mine $name" samsemi mine "$data" --model "$out/warm" --out "$out/$name.h5" --sam "$sam" --overlays 12 --resume "$@"
    stage "measure $name" samsemi eval "$data" --store "$out/$name.h5" --out "$out/eval-store-$name" --overwrite --quiet
}

adapt_sam() {  # afterwards SAM_CHECKPOINT is the adapted one
    # shellcheck disable=SC2086
    stage adapt samsemi adapt "$data" --sam "$SAM" ${SAM_CHECKPOINT:+--sam-checkpoint "$SAM_CHECKPOINT"} ${FOLDS:+--model "$out/warm"} \
        --out "$out/sam.safetensors" --seed "$SEED" $ADAPT --resume
    SAM_CHECKPOINT=$out/sam.safetensors
}

mine_sam() { mine sam "$SAM" ${SAM_CHECKPOINT:+--sam-checkpoint "$SAM_CHECKPOINT"} --embeddings "$out/embeddings.h5"; }

data=$folder
if [ ! -e "$folder/manifest.csv" ]; then
    data=$out/dataset
    # shellcheck disable=SC2086
    stage prepare samsemi prepare "$folder/images" --masks "$folder/masks" --out "$data" --seed "$SEED" $PREPARE --overwrite
fi

stage warmstart samsemi warmstart "$data" --out "$out/warm" --size "$SIZE" --encoder "$ENCODER" --decoder-channels "$DECODER" \
    --encoder-weights "$WEIGHTS" --iterations "$ITERATIONS" --batch-size "$BATCH" --lr "$LR" --seed "$SEED" ${FOLDS:+--folds "$FOLDS"} --resume
stage "eval warm" samsemi eval "$data" --model "$out/warm" --out "$out/eval-warm" --overwrite

if [ -n "$ADAPT" ]; then adapt_sam; fi

for arm in $ARMS; do
    case $arm in
        labeled-only) finetune "$arm" ;;
        self-training)
            mine own none
            finetune "$arm" --store "$out/own.h5"
            ;;
        mined)
            mine_sam
            finetune "$arm" --store "$out/sam.h5"
            ;;
        continuous)
            mine_sam
            finetune "$arm" --store "$out/sam.h5" --schedule continuous --embeddings "$out/embeddings.h5" \
                ${SAM_CHECKPOINT:+--sam-checkpoint "$SAM_CHECKPOINT"}
            ;;
        *) echo "unknown arm $arm" >&2 && exit 2 ;;
    esac
    stage "eval $arm" samsemi eval "$data" --model "$out/$arm" --out "$out/eval-$arm" --against "$out/eval-warm" --overwrite
done

python3 "$here/summary.py" "$out"

#!/usr/bin/env bash
# The main job on one folder: warm start, mine, fine-tune, and the baselines that mining has to beat.
#
#     bash examples/pipeline.sh FOLDER [OUT]
#
# FOLDER   a data set made by `samsemi prepare`, or a folder with images/ and masks/; where all images have masks, nine tenths of those
#          that val and test leave are hidden, as a simulation
# OUT      where runs, stores and evaluations go (default: FOLDER.samsemi)
#
# Every arm sees the same number of images from the same warm start:
#     labeled-only   fine-tuning on the labeled cases alone
#     self-training  ... and on the U-Net++'s own masks of the unlabeled cases
#     once           ... and on SAM's masks of them, mined once; by a SAM adapted to the labeled cases where ADAPT is set
#     continuous     ... mined again every quarter of the fine-tuning
# An arm whose mining accepts nothing is its labeled-only model, and marked so.
# It ends with each arm's scores and with every arm against every other.
#
# Stopped at any moment, the same command goes on; what has ended with the same inputs is not run again (examples/step.py).
# Settings are environment variables, here with their defaults:
: "${SAM:=tiny}"                      # any backend of `samsemi mine --sam`, with SAM_CHECKPOINT where it needs one
: "${ADAPT:=}" "${FOLDS:=}"           # options of `samsemi adapt`, such as --all; folds of the warm start, whose masks SAM then learns to repair
: "${ARMS:=labeled-only self-training once}"
: "${SIZE:=256}" "${ENCODER:=resnet34}" "${DECODER:=256,128,64,32,16}" "${WEIGHTS:=none}"
: "${ITERATIONS:=2000}" "${FINETUNE_ITERATIONS:=2000}" "${BATCH:=8}" "${LR:=1e-3}" "${SEED:=0}"
: "${PREPARE=auto}"                   # options of `samsemi prepare`
# 900 images of Kvasir-SEG take half an hour on a CPU with
#     SIZE=128 ENCODER=mobilenet_v2 DECODER=48,32,16,12,8 ITERATIONS=700 FINETUNE_ITERATIONS=600 OMP_NUM_THREADS=1
set -euo pipefail

folder=${1:?"usage: bash examples/pipeline.sh FOLDER [OUT]"}
out=${2:-${folder%/}.samsemi}
here=$(cd "$(dirname "$0")" && pwd)

step() {  # NAME COMMAND...
    echo "== $1" >&2
    python3 "$here/step.py" "$out" "$@"
}

unless_nothing() {  # NAME COMMAND...: sets `usable`; exit code 7, that nothing is accepted, is a result
    local code=0
    step "$@" || code=$?
    [ "$code" = 0 ] || [ "$code" = 7 ] || exit "$code"
    usable=$((code == 0))
}

mine() {  # ARM SAM [OPTIONS...]
    local arm=$1 sam=$2
    shift 2
    unless_nothing "mine-$arm" mine "$data" --model "$out/warm" --out "$out/$arm.h5" --sam "$sam" --overlays 12 "$@"
    if [ "$usable" = 1 ] && [ -d "$data/truth" ]; then
        step "eval-store-$arm" eval "$data" --store "$out/$arm.h5" --out "$out/eval-store-$arm" || [ $? = 7 ]  # 7: no accepted case has a truth
    fi
}

train() {  # ARM [OPTIONS...]
    local arm=$1
    shift
    unless_nothing "$arm" finetune "$data" --model "$out/warm" --out "$out/$arm" --iterations "$FINETUNE_ITERATIONS" "${training[@]}" "$@"
}

evaluate() { step "eval-$1" eval "$data" --model "$out/${2:-$1}" --out "$out/eval-$1"; }  # ARM [MODEL]

weights=(${SAM_CHECKPOINT:+--sam-checkpoint "$SAM_CHECKPOINT"})
training=(--batch-size "$BATCH" --lr "$LR" --seed "$SEED")
read -ra adapt <<<"$ADAPT"
data=$folder
if [ ! -e "$folder/manifest.csv" ]; then
    data=$out/dataset
    [ "$PREPARE" != auto ] || PREPARE=$(python3 "$here/simulated.py" "$folder")
    read -ra prepare <<<"$PREPARE"
    step prepare prepare "$folder/images" --masks "$folder/masks" --out "$data" --seed "$SEED" ${prepare[@]+"${prepare[@]}"}
fi

step warm warmstart "$data" --out "$out/warm" --size "$SIZE" --encoder "$ENCODER" --decoder-channels "$DECODER" \
    --encoder-weights "$WEIGHTS" --iterations "$ITERATIONS" "${training[@]}" ${FOLDS:+--folds "$FOLDS"}
evaluate warm
if [ -n "$ADAPT" ]; then
    step adapt adapt "$data" --sam "$SAM" ${weights[@]+"${weights[@]}"} ${FOLDS:+--model "$out/warm"} --out "$out/sam.safetensors" \
        --seed "$SEED" "${adapt[@]}"
    weights=(--sam-checkpoint "$out/sam.safetensors")
fi

for arm in $ARMS; do
    usable=1
    case $arm in
        labeled-only) store=() ;;
        self-training)
            mine self-training none
            store=(--store "$out/self-training.h5")
            ;;
        once | continuous)
            mine once "$SAM" ${weights[@]+"${weights[@]}"} --embeddings "$out/embeddings.h5"
            store=(--store "$out/once.h5")
            [ "$arm" = once ] || store+=(--schedule continuous --embeddings "$out/embeddings.h5" ${weights[@]+"${weights[@]}"})
            ;;
        *) echo "unknown arm $arm" >&2 && exit 2 ;;
    esac
    [ "$usable" = 0 ] || train "$arm" ${store[@]+"${store[@]}"}
    if [ "$usable" = 1 ]; then
        evaluate "$arm"
    else
        echo "== $arm: nothing accepted; it is its labeled-only model" >&2
        train labeled-only
        evaluate "$arm" labeled-only
    fi
done

python3 "$here/summary.py" "$out"

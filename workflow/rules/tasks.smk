# What belongs to one task, shared by all suites: its images, its head, its fine-tuned model and task vector.


rule base:
    input:
        model="<model>/model.safetensors",
    output:
        "<store>/base.safetensors",
    log:
        "<store>/logs/base.log",
    benchmark:
        "<store>/benchmarks/base.tsv"
    cache: CACHE
    conda:
        "../../envs/merge.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, copies=2),
        runtime=10,
    message:
        "Base model: {input.model} in full precision"
    shell:
        "python -m tally base --model {input.model}" f"{ADAPTER}" " --output {output} 2> {log}"


rule prepare:
    input:
        model="<settings>",
        tokenizer=tokenizer(),
        code=lambda wildcards: code("data/prepare", "data/splits", *modules(task(wildcards.task))),
    output:
        data="<store>/data/{task}.safetensors",
        manifest="<store>/data/{task}.tsv",
    log:
        "<store>/logs/prepare/{task}.log",
    benchmark:
        "<store>/benchmarks/prepare/{task}.tsv"
    conda:
        "../../envs/data.yaml"
    threads: lambda wildcards: decoders(wildcards.task)
    resources:
        mem_mb=memory(4000, copies=0),
        runtime=240,
    params:
        resources=lambda wildcards: config["resources"],
        row=lambda wildcards: fingerprint(task(wildcards.task)),
        files=lambda wildcards: contents(task(wildcards.task), Path(config["resources"])),
        source=lambda wildcards: source_options(wildcards.task),
    message:
        "Data of {wildcards.task}: read, bring into the model's form, split"
    shell:
        "python -m tally prepare --task {wildcards.task} --model {input.model} --resources {params.resources}"
        " {params.source} --threads {threads}"
        f"{TEXT}"
        " --output {output.data} --manifest {output.manifest} 2> {log}"


rule head:
    input:
        model="<settings>",
        words=own_words(),
        text=text_weights(),
        base="<store>/base.safetensors",
        data="<store>/data/{task}.safetensors",
        code=code("models/base", *KIND.encoder, *(KIND.words if OURS else ["models/bpe"])),
    output:
        head="<store>/heads/{task}.safetensors",
        counts="<store>/heads/{task}.json",
    log:
        "<store>/logs/head/{task}.log",
    benchmark:
        "<store>/benchmarks/head/{task}.tsv"
    cache: CACHE
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, copies=3),
        runtime=30,
        gpu=GPUS,
    params:
        task="{task}",
        precision=config["precision"],
        row=lambda wildcards: fingerprint(task(wildcards.task)),
    message:
        "Zero-shot head of {wildcards.task}"
    shell:
        "python -m tally head --task {params.task} --model {input.model} --base {input.base} --data {input.data}"
        " --precision {params.precision} --threads {threads} --output {output.head} --counts {output.counts} 2> {log}"


# no code= here: a training of hours is not thrown away for a comment in a module
rule finetune:
    input:
        model="<settings>",
        base="<store>/base.safetensors",
        data="<store>/data/{task}.safetensors",
        head="<store>/heads/{task}.safetensors",
    output:
        weights="<store>/finetuned/{task}.safetensors",
        counts="<store>/finetuned/{task}.json",
    log:
        "<store>/logs/finetune/{task}.log",
    benchmark:
        "<store>/benchmarks/finetune/{task}.tsv"
    wildcard_constraints:
        task=only([task for task in all_tasks() if task not in published()]),
    cache: CACHE
    conda:
        "../../envs/train.yaml"
    threads: config["processes"]
    resources:
        mem_mb=memory(2000 * config["processes"], copies=8 * config["processes"]),
        runtime=240,
        gpu=GPUS * config["processes"],
    params:
        task="{task}",
        recipe=recipe,
        seed=config["seed"],
        precision=config["precision"],
    message:
        "Fine-tune on {wildcards.task}"
    shell:
        "python -m tally finetune --task {params.task} --model {input.model} --base {input.base}"
        " --data {input.data} --head {input.head} {params.recipe} --seed {params.seed} --precision {params.precision}"
        " --threads {threads} --output {output.weights} --counts {output.counts} 2> {log}"


rule vector:
    input:
        base="<store>/base.safetensors",
        finetuned="<store>/finetuned/{task}.safetensors",
        code=code("blocks", "streaming", "vectors"),
    output:
        "<store>/task_vectors/{task}.safetensors",
    log:
        "<store>/logs/vector/{task}.log",
    benchmark:
        "<store>/benchmarks/vector/{task}.tsv"
    group:
        group_of_vector
    conda:
        "../../envs/merge.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, copies=3),
        runtime=10,
    message:
        "Task vector of {wildcards.task}"
    shell:
        "python -m tally vector --base {input.base} --finetuned {input.finetuned} --output {output} 2> {log}"


# Snakemake keeps no rule with a benchmark file in its cache between working copies
if CACHE:
    for cached in ("base", "head", "finetune"):
        workflow.get_rule(cached)._benchmark = None

# Models that are not made here: open_clip's base models, and fine-tuned ones that others published.


rule base_model:
    output:
        config="<store>/model/open_clip_config.json",
        model="<store>/model/model.safetensors",
        text="<store>/model/text.safetensors",
    log:
        "<store>/logs/base_model.log",
    benchmark:
        "<store>/benchmarks/base_model.tsv"
    localrule: True  # machines of a cluster may have no internet
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, copies=4),
        runtime=60,
    params:
        source=BASE["source"],
        file=BASE["file"],
        revision=BASE["revision"],
        architecture=BASE["architecture"],
    message:
        "Base model: {params.architecture} of {params.source}"
    shell:
        "python -m tally base-model --source {params.source:q} --file {params.file:q} --revision {params.revision:q}"
        " --architecture {params.architecture:q} --output {output.model} 2> {log}"


rule fetch:
    input:
        base="<store>/base.safetensors",
    output:
        "<store>/finetuned/{task}.safetensors",
    log:
        "<store>/logs/fetch/{task}.log",
    benchmark:
        "<store>/benchmarks/fetch/{task}.tsv"
    wildcard_constraints:
        task=only(published()),
    localrule: True
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, copies=4),
        runtime=60,
    params:
        # functions, whose {name} is none of Snakemake's wildcards
        source=lambda wildcards: PUBLISHED["source"],
        file=lambda wildcards: PUBLISHED["file"],
        revision=PUBLISHED["revision"],
        name=lambda wildcards: PUBLISHED["names"].get(wildcards.task, wildcards.task),
        model=config["model"],
    message:
        "Fine-tuned model of {wildcards.task}: {params.name} of {params.source}"
    shell:
        "python -m tally fetch --task {wildcards.task} --model {params.model:q} --name {params.name:q}"
        " --source {params.source:q} --file {params.file:q} --revision {params.revision:q} --base {input.base}"
        " --output {output} 2> {log}"


rule count:
    input:
        model="<settings>",
        base="<store>/base.safetensors",
        finetuned="<store>/finetuned/{task}.safetensors",
        data="<store>/data/{task}.safetensors",
        head="<store>/heads/{task}.safetensors",
    output:
        "<store>/finetuned/{task}.json",
    log:
        "<store>/logs/count/{task}.log",
    benchmark:
        "<store>/benchmarks/count/{task}.tsv"
    wildcard_constraints:
        task=only(published()),
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, copies=4),
        runtime=minutes(60),
        gpu=GPUS,
    params:
        precision=config["precision"],
    message:
        "What the published model of {wildcards.task} gets right"
    shell:
        "python -m tally count --task {wildcards.task} --model {input.model} --base {input.base}"
        " --finetuned {input.finetuned} --data {input.data} --head {input.head} --precision {params.precision}"
        " --threads {threads} --counts {output} 2> {log}"

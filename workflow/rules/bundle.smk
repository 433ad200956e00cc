# One file per suite and method, from which every task's model can be restored; and what it is in fewer bits.


rule bundle:
    input:
        base="<store>/base.safetensors",
        merged=masked_vector,
        masks="<store>/{suite}/masks/{method}.safetensors",
        search="<store>/{suite}/masks/{method}.json",
        code=code("bundle", "codec", "encoding", "packing"),
    output:
        "<store>/{suite}/bundles/{method}.safetensors",
    log:
        "<store>/logs/bundle/{suite}/{method}.log",
    benchmark:
        "<store>/benchmarks/bundle/{suite}/{method}.tsv"
    conda:
        "../../envs/merge.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, copies=3, per_task=0.1),
        runtime=30,
    message:
        "Bundle {wildcards.suite} for {wildcards.method}: base, merged vector and masks in one file"
    shell:
        "python -m tally bundle --method {wildcards.method} --base {input.base} --merged {input.merged}"
        " --masks {input.masks} --search {input.search} --output {output} 2> {log}"


rule formats:
    input:
        model="<settings>",
        base="<store>/base.safetensors",
        merged=masked_vector,
        masks="<store>/{suite}/masks/{method}.safetensors",
        search="<store>/{suite}/masks/{method}.json",
        counts="<store>/{suite}/accuracy/tall-{method}.json",
        heads=of_tasks("<store>/heads/{task}.safetensors"),
        data=of_tasks("<store>/data/{task}.safetensors"),
        code=code("bundle", "codec", "encoding", "evaluate", "formats", *KIND.encoder, "packing"),
    output:
        "<store>/{suite}/storage/{method}.json",
    log:
        "<store>/logs/formats/{suite}/{method}.log",
    benchmark:
        "<store>/benchmarks/formats/{suite}/{method}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, copies=6, per_task=0.1),
        runtime=minutes(240),
        gpu=GPUS,
    params:
        formats=config["formats"],
        precision=config["precision"],
    message:
        "Bundles of {wildcards.suite} for {wildcards.method} in other storage formats: their bits and their models"
    shell:
        "python -m tally formats --suite {wildcards.suite} --method {wildcards.method} --model {input.model}"
        " --base {input.base} --merged {input.merged} --masks {input.masks} --search {input.search}"
        " --counts {input.counts} --heads {input.heads} --data {input.data} --formats {params.formats}"
        " --precision {params.precision} --threads {threads} --output {output} 2> {log}"


rule storage_table:
    input:
        unpack(counts_with_storage),
        code=code("figures/storage", "figures/style", "records", "statistics", "storage", "tables", "typeset"),
    output:
        csv=report("<store>/{suite}/tables/storage.csv", caption="../report/storage.rst", **shown("Tables", "storage")),
        other=multiext("<store>/{suite}/tables/storage", ".md", ".tex"),
        png=report(
            "<store>/{suite}/figures/storage.png",
            caption="../report/storage_figure.rst",
            **shown("Figures", "storage"),
        ),
        pdf="<store>/{suite}/figures/storage.pdf",
    log:
        "<store>/logs/storage_table/{suite}.log",
    benchmark:
        "<store>/benchmarks/storage_table/{suite}.tsv"
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, copies=0),
        runtime=10,
    params:
        folder=subpath(output.csv, ancestor=2),
        tasks=lambda wildcards: tasks(wildcards.suite),
        candidates=lambda wildcards: list(candidates(wildcards.suite)),
        formats=storage_formats(),
        table=lambda wildcards, output: output.csv.removesuffix(".csv"),
        figure=lambda wildcards, output: output.png.removesuffix(".png"),
    message:
        "Storage formats of {wildcards.suite}"
    shell:
        "python -m tally storage-table --folder {params.folder} --tasks {params.tasks}"
        " --candidates {params.candidates} --formats {params.formats} --table {params.table}"
        " --figure {params.figure} 2> {log}"

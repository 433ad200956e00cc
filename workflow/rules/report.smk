# Counts to tables and figures, and what the run cost.


rule table:
    input:
        unpack(counts_with_storage),
        base="<store>/base.safetensors",
        vector=lambda wildcards: f"<store>/task_vectors/{tasks(wildcards.suite)[0]}.safetensors",
        code=code("records", "statistics", "storage", "tables", "typeset"),
    output:
        main=report("<store>/{suite}/tables/main.csv", caption="../report/main.rst", **shown("Tables", "main")),
        per_task=report(
            "<store>/{suite}/tables/per_task.csv", caption="../report/per_task.rst", **shown("Tables", "per task")
        ),
        paired=report("<store>/{suite}/tables/paired.csv", caption="../report/paired.rst", **shown("Tables", "paired")),
        choices=report(
            "<store>/{suite}/tables/choices.csv", caption="../report/choices.rst", **shown("Tables", "choices")
        ),
        other=collect("<store>/{{suite}}/tables/{table}.{ending}", table=TABLES, ending=["md", "tex"]),
    log:
        "<store>/logs/table/{suite}.log",
    benchmark:
        "<store>/benchmarks/table/{suite}.tsv"
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, copies=0),
        runtime=10,
    params:
        folder=subpath(output.main, ancestor=2),
        tasks=lambda wildcards: tasks(wildcards.suite),
        candidates=lambda wildcards: list(candidates(wildcards.suite)),
        formats=storage_formats(),
    message:
        "Tables of {wildcards.suite}"
    shell:
        "python -m tally table --folder {params.folder} --tasks {params.tasks} --candidates {params.candidates}"
        " --base {input.base} --vector {input.vector} --formats {params.formats} 2> {log}"


rule compare:
    input:
        unpack(counts_of_suite),
        base="<store>/base.safetensors",
        vector=lambda wildcards: f"<store>/task_vectors/{tasks(wildcards.suite)[0]}.safetensors",
        paper=PAPER,
        code=code("comparison", "printed", "records", "statistics", "storage", "tables", "typeset"),
    output:
        csv=report("<store>/{suite}/tables/paper.csv", caption="../report/paper.rst", **shown("Tables", "paper")),
        other=multiext("<store>/{suite}/tables/paper", ".md", ".tex"),
    log:
        "<store>/logs/compare/{suite}.log",
    benchmark:
        "<store>/benchmarks/compare/{suite}.tsv"
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
        stem=lambda wildcards, output: output.csv.removesuffix(".csv"),
    message:
        "{wildcards.suite} beside the paper's numbers"
    shell:
        "python -m tally compare --folder {params.folder} --tasks {params.tasks} --candidates {params.candidates}"
        " --base {input.base} --vector {input.vector} --paper {input.paper} --output {params.stem} 2> {log}"


rule figure:
    input:
        unpack(counts_of_suite),
        code=lambda wildcards: code(f"figures/{wildcards.figure}", "figures/style", "records", "statistics", "tables"),
    output:
        png=report(
            "<store>/{suite}/figures/{figure}.png",
            caption="../report/figure.rst",
            **shown("Figures", "{figure}"),
        ),
        pdf="<store>/{suite}/figures/{figure}.pdf",
    log:
        "<store>/logs/figure/{suite}/{figure}.log",
    benchmark:
        "<store>/benchmarks/figure/{suite}/{figure}.tsv"
    wildcard_constraints:
        figure="|".join(figures()),
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, copies=0),
        runtime=10,
    params:
        folder=subpath(output.png, ancestor=2),
        stem=lambda wildcards, output: output.png.removesuffix(".png"),
        tasks=lambda wildcards: tasks(wildcards.suite),
        candidates=lambda wildcards: list(candidates(wildcards.suite)),
    message:
        "Figures of {wildcards.suite}: {wildcards.figure}"
    shell:
        "python -m tally figure --figure {wildcards.figure} --folder {params.folder} --tasks {params.tasks}"
        " --candidates {params.candidates} --output {params.stem} 2> {log}"


rule suites:
    input:
        tables=collect("<store>/{suite}/tables/main.csv", suite=SUITES),
        choices=collect("<store>/{suite}/tables/choices.csv", suite=SUITES),
        code=code("figures/style", "figures/tasks", "tables", "typeset"),
    output:
        csv=report(
            "<store>/tables/suites.csv", caption="../report/suites.rst", category="Tables", labels=across("suites")
        ),
        other=multiext("<store>/tables/suites", ".md", ".tex"),
        png=report(
            "<store>/figures/tasks.png", caption="../report/tasks.rst", category="Figures", labels=across("tasks")
        ),
        pdf="<store>/figures/tasks.pdf",
    log:
        "<store>/logs/suites.log",
    benchmark:
        "<store>/benchmarks/suites.tsv"
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, copies=0),
        runtime=10,
    params:
        table=lambda wildcards, output: output.csv.removesuffix(".csv"),
        figure=lambda wildcards, output: output.png.removesuffix(".png"),
        tasks=[len(members) for members in SUITES.values()],
    message:
        "All suites side by side"
    shell:
        "python -m tally suites --tables {input.tables} --tasks {params.tasks} --table {params.table}"
        " --figure {params.figure} 2> {log}"

# TALL-masks and Consensus Merging (Wang et al., ICML 2024) from base model to tables.
# The includes are in the order of the pipeline; `snakemake --cores all` runs rule all.

import time

from snakemake.utils import min_version

min_version("9.25")

STARTED = time.time()


# a --configfile replaces the embedded default instead of mixing its suites with it
if "suites" not in config:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"


report: "workflow/report/workflow.rst"


include: "workflow/rules/pretrain.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/tasks.smk"
include: "workflow/rules/merge.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/bundle.smk"


rule all:
    default_target: True
    input:
        collect("<store>/{suite}/tables/{table}.csv", suite=config["suites"], table=TABLES),
        collect("<store>/{suite}/figures/{figure}.png", suite=config["suites"], figure=list(figures())),
        collect("<store>/{suite}/bundles/{method}.safetensors", suite=config["suites"], method=masked()),
        storage_outputs(),
        collect("<store>/{suite}/tables/paper.csv", suite=compared()),
        # with its figure; one suite's would say what its own table says
        "<store>/tables/suites.csv" if len(SUITES) > 1 else [],


onsuccess:
    shell(f"python -m tally --quiet summary {summary_options(workflow, STARTED)} --suites {' '.join(SUITES)}")


onerror:
    shell(
        f"python -m tally --quiet failures {' '.join(log)}; python -m tally --quiet summary {summary_options(workflow, STARTED)}"
    )

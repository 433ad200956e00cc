"""The paper's eleven text tasks: questions with choices, a row each. Suites nlp-7, qa-8 and qa-11.

A row says which columns a question is made of and which the right answer is; the wording of the templates is tally's own,
with the fields that P3's prompts of the task use. The splits are those of MaTS (github.com/r-three/mats) but for QASC's test:
validation data are the last examples of the training data, test data are the validation data of the hub. `tally.data.qa`
reads and words them.
"""

from dataclasses import dataclass

CHOICES, CHOICE = 8, 64  # choices of an input, ids of a choice


@dataclass(frozen=True)
class Questions:
    """One task. Every text in braces is a column, `{answers[0]}` a part of one; `{options}` lists the choices.

    The column `label` holds the one of `keys` that stands at the right choice's place. With a single choice there is no
    label: that text is the answer, which has to be written and not chosen.
    """

    name: str
    title: str
    templates: tuple[str, ...]
    choices: tuple[str, ...]
    label: str
    keys: tuple[str, ...]
    repository: str | None  # on the hub
    config: str | None = None  # of several in the repository
    revision: str | None = None  # None: the newest, for none was reachable when this was written
    train: str = "train"  # what the hub calls the splits
    test: str = "validation"
    held: int = 1000  # validation examples
    by_hand: str = ""  # what to put where, if it is in no repository
    epochs: None = None  # the paper's training goes by steps
    source: None = None  # of pictures

    @property
    def classes(self) -> tuple[str, ...]:
        """What the rows of the head are called."""
        return self.keys or ("answer", "anything else")


NO_YES, LETTERS = ("No", "Yes"), tuple("ABCDEFGH")
PARQUET = "default", "refs/convert/parquet"  # where the hub keeps its own copy of a repository that is a program

ROWS = (
    Questions(
        "paws", "do two sentences say the same",
        ("First: {sentence1}\nSecond: {sentence2}\nDo both sentences mean the same? Yes or no?",
         "Is \"{sentence2}\" another way of saying \"{sentence1}\"? Yes or no?"),
        NO_YES, "label", ("0", "1"), "google-research-datasets/paws", "labeled_final"),
    Questions(
        "qasc", "school science, from two facts",
        ("Fact: {fact1}\nFact: {fact2}\nQuestion: {question}\nWhich one follows?\n{options}",
         "Knowing that {fact1} and that {fact2}, {question}\n{options}"),
        tuple(f"{{choices[text][{i}]}}" for i in range(8)), "answerKey", LETTERS, "allenai/qasc", held=500),
    Questions(
        "quartz", "how quantities go together",
        ("{para}\nUse this to answer: {question}\n{options}",
         "Question: {question}\nWhat is known: {para}\nAnswers:\n{options}"),
        ("{choices[text][0]}", "{choices[text][1]}"), "answerKey", LETTERS[:2], "allenai/quartz", held=200),
    Questions(
        "story_cloze", "the end of a story",
        ("{input_sentence_1} {input_sentence_2} {input_sentence_3} {input_sentence_4}\nHow does the story end?\n{options}",
         "Complete the story with one of the sentences below.\n{options}\n"
         "Story: {input_sentence_1} {input_sentence_2} {input_sentence_3} {input_sentence_4}"),
        ("{sentence_quiz1}", "{sentence_quiz2}"), "answer_right_ending", ("1", "2"),
        None, train="validation", test="test",  # without training data
        by_hand="validation.jsonl and test.jsonl, made of the two files of spring 2016 that its makers hand out, as docs/t5.md says"),
    Questions(
        "wiki_qa", "does a sentence answer a question",
        ("Question: {question}\nSentence of the article {document_title}: {answer}\nDoes it answer the question? Yes or no?",
         "Someone asks: {question}? The reply is: {answer} Is this a right reply? Yes or no?"),
        NO_YES, "label", ("0", "1"), "microsoft/wiki_qa"),
    Questions(
        "winogrande", "what fits the gap",
        ("{sentence}\nWhat does the _ stand for?\n{options}",
         "Fill the gap (_) with {option1} or {option2}: {sentence}"),
        ("{option1}", "{option2}"), "answer", ("1", "2"), "allenai/winogrande", "winogrande_xl"),
    Questions(
        "wsc", "whom a pronoun means",
        ("{text}\nIn this text, does \"{span2_text}\" mean \"{span1_text}\"? Yes or no?",
         "Text: {text}\nThe words \"{span2_text}\" refer to {span1_text}. Yes or no?"),
        NO_YES, "label", ("0", "1"), "aps/super_glue", "wsc.fixed", held=100),
    Questions(
        "cosmos_qa", "what a text leaves unsaid",
        ("{context}\nQuestion: {question}\n{options}",
         "Read this, then answer.\n{context}\n{question}\nThe answer is one of:\n{options}"),
        ("{answer0}", "{answer1}", "{answer2}", "{answer3}"), "label", ("0", "1", "2", "3"), "allenai/cosmos_qa", *PARQUET),
    Questions(
        "social_iqa", "what people feel and do",
        ("{context}\n{question}\n{options}",
         "Situation: {context}\nQuestion: {question}\nChoose:\n{options}"),
        ("{answerA}", "{answerB}", "{answerC}"), "label", ("1", "2", "3"), "allenai/social_i_qa", *PARQUET),
    Questions(
        "quail", "long texts, with questions they may not answer",
        ("{context}\nQuestion: {question}\n{options}",
         "Text: {context}\nWhich answer is right? {question}\n{options}"),
        tuple(f"{{answers[{i}]}}" for i in range(4)), "correct_answer_id", ("0", "1", "2", "3"), "textmachinelab/quail"),
    Questions(
        "ropes", "apply what a text says to a situation",
        ("Background: {background}\nSituation: {situation}\nQuestion: {question}\nAnswer with words of the text.",
         "{question}\nFind the answer in these two paragraphs.\n{situation}\n{background}"),
        ("{answers[text][0]}",), "", (), "allenai/ropes"),
)  # fmt: skip

TASKS: dict[str, Questions] = {row.name: row for row in ROWS}
NLP = ("paws", "qasc", "quartz", "story_cloze", "wiki_qa", "winogrande", "wsc")
QA = ("cosmos_qa", "social_iqa", "paws", "quail", "wiki_qa", "quartz", "qasc", "ropes")
SUITES = {"nlp-7": NLP, "qa-8": QA, "qa-11": tuple(dict.fromkeys(NLP + QA))}

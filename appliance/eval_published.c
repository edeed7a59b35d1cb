/* eval_published.c - figures as their authors published them; none was measured here. */
#include "appliance/eval_published.h"

#include <string.h>

static const eval_published_row needle_rows[] = {{"GPT-4", {"92%", "to 64.5K", "9 of 15"}},
                                                 {"Claude 2.1", {"59.5%", "", ""}}};
static const eval_published_row ruler_rows[] = {
    {"Jamba-1.5-large", {"96.7", "96.6", "96.4", "96.0", "95.4", "95.1"}},
    {"Gemini-1.5-pro", {"96.7", "95.8", "96.0", "95.9", "95.9", "94.4"}},
    {"GPT-4-1106", {"96.6", "96.3", "95.2", "93.2", "87.0", "81.2"}},
    {"Llama-3.1-70B", {"96.5", "95.8", "95.4", "94.8", "88.4", "66.6"}},
    {"Llama-3.1-8B", {"95.5", "93.8", "91.6", "87.4", "84.7", "77.0"}},
    {"Phi3-mini", {"92.2", "91.5", "90.7", "87.5", "80.6", "66.7"}}};
static const eval_published_row middle_rows[] = {
    {"Llama-2-70B-chat", {"56.8", "53.3", "54.1", "59.7", "69.5"}},
    {"MPT-30B, key-value pairs", {"100", "93.6", "88.6", "80.4", "96.2"}}};
static const eval_published_row babilong_rows[] = {
    {"Gemini-3-flash", {"100", "100", "100", "91", "77", "75", "66"}},
    {"Phi-3-medium", {"100", "80", "81", "72", "69", "58", "21"}},
    {"Llama-3 + RAG", {"60", "58", "58", "60", "60", "56", "56"}}};
#define ROWS(list) (list), sizeof(list) / sizeof *(list)

static const eval_published needle_tables[] = {{"Needle in a haystack, published",
                                                "15 x 15 cells from 1K to 128K, scored by a language model",
                                                {"cells perfect", "all perfect", "perfect at 128K", NULL},
                                                ROWS(needle_rows)}};
static const eval_published ruler_tables[] = {{"RULER, published: mean of the 13 tasks",
                                               "500 samples of each task and length",
                                               {"4K", "8K", "16K", "32K", "64K", "128K", NULL},
                                               ROWS(ruler_rows)}};
static const eval_published qa_tables[] = {
    {"Lost in the middle, published",
     "20 documents, the source at the index named; 140 uuid pairs in five parts",
     {"0", "4", "9", "14", "19", NULL},
     ROWS(middle_rows)},
    {"BABILong qa1, published",
     "facts among book text",
     {"0", "4K", "8K", "16K", "32K", "64K", "128K"},
     ROWS(babilong_rows)}};

const eval_published *eval_published_at(eval_kind over, int i) {
    if (over == EVAL_NEEDLE) return i < 1 ? &needle_tables[i] : NULL;
    if (over == EVAL_RULER) return i < 1 ? &ruler_tables[i] : NULL;
    return over == EVAL_QA && i < 2 ? &qa_tables[i] : NULL;
}

static bool set(const json_t *params, const char *key) {
    return json_is_true(json_object_get(params, key));
}

const char *eval_protocol_note(const json_t *params, int i) {
    const char *over = json_string_value(json_object_get(params, "over"));
    bool needle = over && !strcmp(over, "needle"), ruler = over && !strcmp(over, "ruler"),
         qa = over && !strcmp(over, "qa");
    bool own = json_array_size(json_object_get(params, "needles")) > 0, together = set(params, "together");
    bool given = json_array_size(json_object_get(params, "files")) > 0 || set(params, "documents") ||
                 set(params, "generated");
    const struct {
        bool holds;
        const char *text;
    } notes[] = {
        {true, "Lengths are tokens of this model's own tokenizer; a small vocabulary makes them shorter in "
               "characters, "
               "which are told for every cell."},
        {!set(params, "plain"), "Texts stand in the release's file template, each under its name."},
        {needle, "Scored by substring match, without regard to ASCII case, where the original asks a "
                 "language model."},
        {needle && own, "The needles are the user's."},
        {needle && together,
         "All depths of a length stand in one haystack, each with its own needle and key, so that a row "
         "costs one reading; the original plants one needle a prompt."},
        {needle && set(params, "reworded"),
         "The questions use other words than the needles; the original's uses its needle's."},
        {needle, "The prompt ends 200 tokens before the length, as the original's does."},
        {!given && !qa,
         "The haystack is the licence texts of this machine, repeated; the original repeats essays."},
        {ruler && !json_is_string(json_object_get(params, "words")),
         "The words are ours, not the published generator's."},
        {ruler, "The essays are ours, not the published generator's; templates, counts, limits and length "
                "accounting are."},
        {ruler && set(params, "published"),
         "fwe keeps room for its answer within the length, where the published generator does not."},
        {ruler && !set(params, "answer_prefix"),
         "The answer is not begun for the model, where the published prompts do."},
        {ruler && !set(params, "published"), "The worked example before vt and cwe is left out."},
        {ruler && together,
         "The five tasks over essays share one haystack of each sample, so that their prompts hold "
         "each other's needles."},
        {ruler,
         "qa_1 and qa_2 take their questions from the file given, where SQuAD and HotpotQA are published."},
        {ruler, "The number of samples of each task stands with its figure; 500 are published."},
        {qa, "Each passage is a document of its own; the other passages of the file are the distractors, and "
             "what they do "
             "not fill is filled with other text."},
        {qa, "F1 and exact match are SQuAD's."},
    };
    for (size_t k = 0; k < sizeof notes / sizeof *notes; k++)
        if (notes[k].holds && i-- == 0) return notes[k].text;
    return NULL;
}

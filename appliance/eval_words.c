/* eval_words.c - see eval_words.h. */
#include "appliance/eval_words.h"

#include <stdlib.h>
#include <string.h>

static const char *const adjectives[] = {
    "able",   "ancient", "bitter",   "brave",  "bright",  "broad",  "calm",    "careful", "cheerful",
    "clever", "cold",    "common",   "crisp",  "curious", "daring", "deep",    "distant", "eager",
    "early",  "elegant", "faint",    "famous", "fancy",   "fierce", "flat",    "fond",    "fresh",
    "gentle", "glad",    "graceful", "grand",  "handy",   "happy",  "heavy",   "honest",  "humble",
    "icy",    "jolly",   "keen",     "kind",   "late",    "lively", "lonely",  "loud",    "lucky",
    "mellow", "mild",    "modest",   "narrow", "neat",    "noble",  "odd",     "patient", "plain",
    "polite", "proud",   "quick",    "quiet",  "rapid",   "rare",   "ripe",    "rough",   "round",
    "rustic", "serious", "shallow",  "sharp",  "shiny",   "silent", "simple",  "slender", "slow",
    "smooth", "solid",   "spare",    "steady", "steep",   "stern",  "strange", "sturdy",  "subtle",
    "sudden", "sweet",   "swift",    "tender", "thick",   "tidy",   "tiny",    "upright", "useful",
    "vast",   "vivid",   "warm",     "weary",  "wild",    "wise",   "witty",   "young",   "zealous",
    "ample"};
static const char *const nouns[] = {
    "anchor",  "apron",   "arrow",   "autumn",   "badge",   "bakery",  "balloon", "barrel",   "basket",
    "beacon",  "blanket", "bottle",  "branch",   "bridge",  "bucket",  "button",  "cabin",    "candle",
    "canyon",  "carpet",  "castle",  "ceiling",  "chapter", "cherry",  "chimney", "circle",   "cliff",
    "cloak",   "compass", "cottage", "cradle",   "curtain", "cushion", "dagger",  "desert",   "drawer",
    "dungeon", "engine",  "fabric",  "falcon",   "feather", "fiddle",  "flagon",  "forest",   "fountain",
    "galaxy",  "garden",  "gesture", "glacier",  "goblet",  "granite", "hammer",  "harbor",   "harvest",
    "helmet",  "hinge",   "horizon", "insect",   "island",  "jacket",  "jungle",  "kettle",   "kitchen",
    "ladder",  "lantern", "lemon",   "letter",   "lobby",   "locket",  "magnet",  "mantle",   "marble",
    "meadow",  "melody",  "mirror",  "monument", "morning", "museum",  "needle",  "notebook", "oasis",
    "orchard", "oven",    "paddle",  "palace",   "parcel",  "pebble",  "pencil",  "pigeon",   "pillow",
    "planet",  "pocket",  "quarry",  "rafter",   "ribbon",  "rocket",  "saddle",  "satchel",  "shadow",
    "shelter"};
enum { ADJECTIVES = sizeof adjectives / sizeof *adjectives, NOUNS = sizeof nouns / sizeof *nouns };

static int by_spelling(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Cuts the text into words in place. */
static int read_words(eval_lexicon *l, const char *path, ph_error *err) {
    size_t number = 0;
    for (char *line = l->text, *next; line; line = next) {
        number++;
        if ((next = strchr(line, '\n'))) *next++ = 0;
        char *rest = NULL, *kind = strtok_r(line, " \t\r", &rest), *word = strtok_r(NULL, " \t\r", &rest);
        if (!kind) continue;
        bool adjective = !strcmp(kind, "adjective"), noun = !strcmp(kind, "noun");
        if (!word || strtok_r(NULL, " \t\r", &rest) || (!adjective && !noun && strcmp(kind, "verb")))
            return ph_fail(err, PH_USAGE, "%s, line %zu: a line is \"adjective WORD\", noun or verb", path,
                           number);
        /* Two words and a hyphen make a key. */
        if (2 * strlen(word) + 2 > EVAL_WORD)
            return ph_fail(err, PH_USAGE, "%s, line %zu: the word is too long", path, number);
        if (adjective) l->adjectives[l->n_adjectives++] = word;
        if (noun) l->nouns[l->n_nouns++] = word;
        l->words[l->n_words++] = word;
    }
    qsort(l->words, l->n_words, sizeof *l->words, by_spelling);
    size_t n = 0;
    for (size_t i = 0; i < l->n_words; i++)
        if (!n || strcmp(l->words[n - 1], l->words[i])) l->words[n++] = l->words[i];
    l->n_words = n;
    /* Enough keys for every needle of a prompt, enough words for a list and its ten common ones. */
    if (l->n_adjectives < 10 || l->n_nouns < 10 || n < 40)
        return ph_fail(err, PH_USAGE, "%s: ten adjectives, ten nouns and forty words at least are wanted",
                       path);
    return PH_OK;
}

int eval_lexicon_load(eval_lexicon **out, const char *path, ph_error *err) {
    *out = NULL;
    eval_lexicon *l = calloc(1, sizeof *l);
    if (!l) return ph_fail(err, PH_MEMORY, "no memory for a word list");
    size_t len = 0, lines = 1;
    int code = eval_read_file(path, &l->text, &len, err);
    if (!code && memchr(l->text, 0, len)) code = ph_fail(err, PH_UNSUPPORTED, "%s is no text", path);
    for (size_t i = 0; !code && i < len; i++) lines += l->text[i] == '\n';
    l->adjectives = calloc(lines, sizeof *l->adjectives);
    l->nouns = calloc(lines, sizeof *l->nouns);
    l->words = calloc(lines, sizeof *l->words);
    if (!code && (!l->adjectives || !l->nouns || !l->words))
        code = ph_fail(err, PH_MEMORY, "no memory for %zu words", lines);
    if (!code) code = read_words(l, path, err);
    if (code)
        eval_lexicon_free(l);
    else
        *out = l;
    return code;
}

void eval_lexicon_free(eval_lexicon *l) {
    if (!l) return;
    free(l->text);
    free(l->adjectives);
    free(l->nouns);
    free(l->words);
    free(l);
}

void eval_word_pair(char out[EVAL_WORD], const eval_lexicon *l, eval_random *r) {
    const char *a = l ? l->adjectives[eval_below(r, l->n_adjectives)] : adjectives[eval_below(r, ADJECTIVES)],
               *n = l ? l->nouns[eval_below(r, l->n_nouns)] : nouns[eval_below(r, NOUNS)];
    snprintf(out, EVAL_WORD, "%s-%s", a, n);
}

void eval_word_number(char out[EVAL_WORD], eval_random *r) {
    snprintf(out, EVAL_WORD, "%d", (int)(1000000 + eval_below(r, 9000000)));
}

void eval_word_uuid(char out[EVAL_WORD], eval_random *r) {
    uint64_t a = eval_next(r), b = eval_next(r);
    snprintf(out, EVAL_WORD, "%08x-%04x-4%03x-%04x-%012llx", (unsigned)(a >> 32),
             (unsigned)(a >> 16 & 0xFFFF), (unsigned)(a & 0xFFF), (unsigned)(0x8000 | (b >> 48 & 0x3FFF)),
             (unsigned long long)(b & 0xFFFFFFFFFFFF));
}

void eval_word_made(char out[EVAL_WORD], uint64_t number) {
    static const char *const heads[] = {"b", "br", "c", "d",  "dr", "f", "g",  "gl", "h",  "k", "l",
                                        "m", "n",  "p", "pl", "r",  "s", "st", "t",  "tr", "v", "w"};
    static const char *const vowels[] = {"a", "e", "i", "o", "u", "ai", "oa"};
    enum { HEADS = sizeof heads / sizeof *heads, VOWELS = sizeof vowels / sizeof *vowels };
    int n = 0;
    /* Two syllables at least, as many as the number needs; "n" closes the word. */
    for (int i = 0; i < 2 || number; i++) {
        n += snprintf(out + n, (size_t)(EVAL_WORD - n), "%s%s", heads[number % HEADS],
                      vowels[number / HEADS % VOWELS]);
        number /= HEADS * VOWELS;
    }
    snprintf(out + n, (size_t)(EVAL_WORD - n), "n");
}

void eval_word_letters(char out[EVAL_WORD], int n, char first, eval_random *r) {
    for (int i = 0; i < n; i++) out[i] = (char)(first + (char)eval_below(r, 26));
    out[n] = 0;
}

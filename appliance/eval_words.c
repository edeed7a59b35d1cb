/* eval_words.c - see eval_words.h. */
#include "appliance/eval_words.h"

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

void eval_word_pair(char out[EVAL_WORD], eval_random *r) {
    const char *a = adjectives[eval_below(r, ADJECTIVES)], *n = nouns[eval_below(r, NOUNS)];
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

/* eval_needle.c - needles in a haystack: the original one, the user's, or facts with a key of their own for
 * each depth. One needle a prompt as the original does (deepest first, so that what stands before it is read
 * once), or all of a row in one haystack (`together`). */
#include "appliance/eval_haystack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *needle, *question, *answer;
} original = {
    "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day.",
    "What is the best thing to do in San Francisco?",
    "eat a sandwich and sit in Dolores Park on a sunny day"};

/* Facts that no text tells: key and value are drawn, the wording is one of these. */
typedef enum value_kind { NUMBER, PERSON, PLACE, DATE, PHRASE } value_kind;
static const struct wording {
    const char *needle;   /* key, value */
    const char *question; /* in the needle's words */
    const char *reworded; /* in others */
    value_kind value;
} wordings[] = {
    {"The best thing to do in %s is %s.", "What is the best thing to do in %s?",
     "Which activity do you recommend to a visitor of %s above all?", PHRASE},
    {"In %s, the spare key to the town archive is kept in %s.",
     "Where is the spare key to the town archive kept in %s?",
     "I lost my key to the archive of %s. Where do I find another?", PLACE},
    {"The bell tower of %s was last repaired on %s.", "When was the bell tower of %s last repaired?",
     "What is the date of the most recent work on the belfry of %s?", DATE},
    {"The only piano tuner in %s is called %s.", "What is the only piano tuner in %s called?",
     "Who can put my piano in tune in %s?", PERSON},
    {"The storm in %s broke exactly %s windows.", "How many windows did the storm in %s break?",
     "What number of panes was smashed by bad weather in %s?", NUMBER},
    {"Anyone who visits %s should remember to %s.", "What should anyone who visits %s remember to do?",
     "A tourist in %s must not forget one thing. Which?", PHRASE},
    {"The recipe for the famous soup of %s lies hidden in %s.",
     "Where does the recipe for the famous soup of %s lie hidden?",
     "In what place was the instruction for cooking the well-known broth of %s put away?", PLACE},
    {"The mayor of %s retired on %s.", "When did the mayor of %s retire?",
     "On which day did the head of the town of %s leave office?", DATE},
    {"The first prize of the kite festival in %s went to %s.",
     "Who won the first prize of the kite festival in %s?", "Whose kite was judged the best one in %s?",
     PERSON},
    {"The public library of %s lends out %s umbrellas.",
     "How many umbrellas does the public library of %s lend out?",
     "If it rains in %s, how many people can borrow something against it where books are kept?", NUMBER},
    {"Children in %s learn very early to %s.", "What do children in %s learn very early?",
     "Which skill is taught to the young ones of %s before most others?", PHRASE},
    {"The oldest clock of %s now stands in %s.", "Where does the oldest clock of %s stand now?",
     "Where has the most ancient timepiece of %s ended up?", PLACE},
    {"The new ferry to %s will sail for the first time on %s.",
     "When will the new ferry to %s sail for the first time?",
     "On what date does the maiden voyage of the boat to %s take place?", DATE},
    {"The lighthouse near %s is looked after by %s.", "Who looks after the lighthouse near %s?",
     "What is the name of the keeper of the beacon by %s?", PERSON},
    {"A census counted %s beehives in %s.", "How many beehives did a census count in %s?",
     "How many homes of bees were found in %s when somebody went and looked?", NUMBER},
};
enum {
    WORDINGS = sizeof wordings / sizeof *wordings,
    SWAPPED = WORDINGS - 1
}; /* the last names the value first */

static const char *const keys[] = {
    "Marlow Bay",      "Tesselfeld",     "Port Aveline",  "Oakhurst Hollow", "Brinmouth",
    "Castellane Rock", "Drumvale",       "Eastergate",    "Fenwick Sound",   "Galtree",
    "Hollins Ferry",   "Ilverstone",     "Jessamy Green", "Kirrinport",      "Lanternby",
    "Mossgard",        "Netherquay",     "Ostermark",     "Pellworth",       "Quillan Bridge",
    "Ravensholt",      "Saltmarsh End",  "Thistledown",   "Umberleigh",      "Vantry Cross",
    "Wexcombe",        "Yarrowfield",    "Zennor Hill",   "Ashgrove Mill",   "Bellhaven",
    "Coldbrook",       "Dunmorrow",      "Elderfoss",     "Farrowdale",      "Grimsay Point",
    "Hartsease",       "Inverlocke",     "Juniper Flats", "Kettleness",      "Lowther Pool",
    "Merrivane",       "Northwick Sands"};
static const char *const first_names[] = {"Amalia", "Bertrand", "Cosima", "Desmond", "Evangeline", "Florian",
                                          "Greta",  "Horatio",  "Ingrid", "Jasper",  "Katarina",   "Leopold"};
static const char *const last_names[] = {"Achterberg", "Bramwell", "Castellan", "Dunmore",
                                         "Eklund",     "Farquhar", "Grimaldi",  "Holloway",
                                         "Isaksen",    "Jarvela",  "Kestrel",   "Lindqvist"};
static const char *const where[] = {"a blue tea caddy",
                                    "the third drawer of the post office",
                                    "a hollow oak behind the school",
                                    "the cellar of the bakery",
                                    "a tin box under the bandstand",
                                    "the attic of the customs house",
                                    "a violin case",
                                    "the boiler room of the swimming pool",
                                    "a flower pot on the chapel wall",
                                    "the glove box of a fire engine",
                                    "the dovecote of the old manor",
                                    "a crate marked with a red star"};
static const char *const what[] = {
    "count the swans on the upper canal",           "ring the brass bell before sunrise",
    "taste the pear jam at the covered market",     "walk barefoot along the tidal causeway",
    "carry a lantern through the salt tunnels",     "listen to the choir of the glass factory",
    "climb the windmill with a wicker basket",      "skate around the frozen fish pond",
    "borrow a rowing boat from the harbour master", "whistle at the echo wall three times",
    "leave a walnut on the doorstep of the museum", "watch the goats cross the iron bridge"};
static const char *const months[] = {"January", "February", "March",     "April",   "May",      "June",
                                     "July",    "August",   "September", "October", "November", "December"};
enum { KEYS = sizeof keys / sizeof *keys };
#define PICK(r, list) list[eval_below(r, sizeof list / sizeof *list)]

static void draw_value(char out[120], value_kind kind, eval_random *r) {
    switch (kind) {
    case NUMBER:
        snprintf(out, 120, "%d", (int)(1000 + eval_below(r, 9000)));
        break;
    case PERSON: {
        const char *first = PICK(r, first_names), *last = PICK(r, last_names);
        snprintf(out, 120, "%s %s", first, last);
        break;
    }
    case PLACE:
        snprintf(out, 120, "%s", PICK(r, where));
        break;
    case DATE: {
        int day = (int)eval_below(r, 28) + 1;
        const char *month = PICK(r, months);
        snprintf(out, 120, "%d %s %d", day, month, (int)(1900 + eval_below(r, 120)));
        break;
    }
    case PHRASE:
        snprintf(out, 120, "%s", PICK(r, what));
        break;
    }
}

typedef struct drawn {
    char needle[320], question[240], answer[120];
} drawn;

static void draw(drawn *out, const char *key, size_t number, bool reworded, eval_random *r) {
    const struct wording *w = &wordings[number % WORDINGS];
    draw_value(out->answer, w->value, r);
    bool swapped = number % WORDINGS == SWAPPED;
    /* The formats are the table's own. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(out->needle, sizeof out->needle, w->needle, swapped ? out->answer : key,
             swapped ? key : out->answer);
    snprintf(out->question, sizeof out->question, reworded ? w->reworded : w->question, key);
#pragma GCC diagnostic pop
}

/* The needles of one haystack: the user's by turns, or drawn ones with different keys: the same for every
 * length, so that lengths can be compared, and at other depths, so that a hard needle is not taken for a hard
 * depth. */
static int draw_needles(drawn *out, int n, const eval_params *p, int64_t length, int sample, ph_error *err) {
    if (p->n_needles) {
        for (int i = 0; i < n; i++) {
            const eval_needle *from = &p->needles[((size_t)sample * (size_t)n + (size_t)i) % p->n_needles];
            snprintf(out[i].needle, sizeof out[i].needle, "%s", from->needle);
            snprintf(out[i].question, sizeof out[i].question, "%s", from->question);
            snprintf(out[i].answer, sizeof out[i].answer, "%s", from->answer);
        }
        return PH_OK;
    }
    if (n > KEYS)
        return ph_fail(err, PH_USAGE, "%d needles in one haystack are more than the %d keys", n, KEYS);
    eval_random r = eval_stream(p->seed, "needles", sample, 0);
    size_t order[KEYS];
    for (size_t i = 0; i < KEYS; i++) order[i] = i;
    for (size_t i = KEYS; i > 1; i--) {
        size_t j = eval_below(&r, i), swap = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swap;
    }
    size_t start = eval_below(&r, WORDINGS);
    eval_random turn = eval_stream(p->seed, "turn of the needles", length, sample);
    int first = (int)eval_below(&turn, (uint64_t)n);
    for (int i = 0; i < n; i++)
        draw(&out[(first + i) % n], keys[order[i]], start + (size_t)i, p->reworded, &r);
    return PH_OK;
}

int eval_needle_plan(eval_plan *plan, ph_error *err) {
    const eval_params *p = plan->params;
    if (p->depths < 1 || p->depths > 1000)
        return ph_fail(err, PH_USAGE, "%d depths are not within 1 and 1000", p->depths);
    if (p->together && p->n_needles && p->n_needles < (size_t)p->depths)
        return ph_fail(err, PH_USAGE, "%d needles together need as many in the file; it has %zu", p->depths,
                       p->n_needles);
    for (size_t i = 0; i < p->n_needles; i++)
        if (strlen(p->needles[i].needle) >= sizeof((drawn *)0)->needle ||
            strlen(p->needles[i].question) >= sizeof((drawn *)0)->question ||
            strlen(p->needles[i].answer) >= sizeof((drawn *)0)->answer)
            return ph_fail(err, PH_TOO_LARGE, "needle %zu is too long (319 bytes, question 239, answer 119)",
                           i + 1);
    size_t a_row = p->together ? 1 : (size_t)p->depths;
    plan->groups = calloc((size_t)p->n_lengths * (size_t)p->samples * a_row, sizeof *plan->groups);
    if (!plan->groups) return ph_fail(err, PH_MEMORY, "no memory for a plan");
    for (int l = 0; l < p->n_lengths; l++)
        for (int s = 0; s < p->samples; s++)
            for (size_t d = a_row; d-- > 0;)
                plan->groups[plan->n_groups++] =
                    (eval_group){.length = p->lengths[l],
                                 .sample = s,
                                 .number = (int)d,
                                 .questions = p->together ? (size_t)p->depths : 1};
    return PH_OK;
}

static int question_tokens(const eval_plan *plan, const char *question, int64_t *n, ph_error *err) {
    token_list l = {0};
    int code = prompt_question(engine_prompt(plan->engine), engine_tokenizer(plan->engine), question,
                               strlen(question), 0, &l, err);
    *n = (int64_t)l.n;
    token_list_free(&l);
    return code;
}

/* What needles and the longest question take of the length. */
static int measure(const eval_plan *plan, const drawn *d, int n, int64_t *tokens, ph_error *err) {
    int64_t most = 0;
    *tokens = EVAL_BUFFER + 2;
    for (int i = 0; i < n; i++) {
        int64_t needle = eval_count_tokens(plan, d[i].needle, err), question = 0;
        if (needle < 0) return PH_MEMORY;
        int code = question_tokens(plan, d[i].question, &question, err);
        if (code) return code;
        *tokens += needle + 2; /* a cut word boundary on either side */
        if (question > most) most = question;
    }
    *tokens += most;
    return PH_OK;
}

/* Where a needle went; insertions before it in the same text move it. */
typedef struct place {
    size_t piece, byte, at;
} place;

static int ask(eval_haystack *h, const drawn *d, const place *at, double depth, const eval_params *p,
               ph_error *err) {
    eval_question *q = eval_haystack_ask(h, "needle", d->question, err);
    int code = q ? eval_question_answer(q, d->answer, err) : PH_MEMORY;
    if (code) return code;
    const char *in = eval_find(d->needle, d->answer);
    size_t from = in ? (size_t)(in - d->needle) : 0, len = in ? strlen(d->answer) : strlen(d->needle);
    q->all = true;
    q->depth = depth;
    q->max_tokens = p->max_tokens ? p->max_tokens : 64;
    q->text = (int)at->piece;
    q->start = at->at;
    q->end = at->at + strlen(d->needle);
    q->spans[q->n_spans++] = eval_token_span(&h->pack, q->text, at->at + from, at->at + from + len);
    return PH_OK;
}

int eval_needle_make(eval_haystack *h, const eval_plan *plan, const eval_group *g, ph_error *err) {
    const eval_params *p = plan->params;
    int n = p->together ? p->depths : 1;
    drawn *d = calloc((size_t)n, sizeof *d);
    place *at = calloc((size_t)n, sizeof *at);
    eval_pieces pieces = {0};
    int64_t taken = 0;
    int code = d && at ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for %d needles", n);
    if (!code && !p->together && !p->n_needles) {
        strcpy(d[0].needle, original.needle);
        strcpy(d[0].question, original.question);
        strcpy(d[0].answer, original.answer);
    } else if (!code)
        code = draw_needles(d, n, p, g->length, p->together ? g->sample : g->sample * p->depths + g->number,
                            err);
    if (!code) code = measure(plan, d, n, &taken, err);
    if (!code) code = eval_pieces_fill(&pieces, plan, g->length - taken, g->sample, err);
    for (int i = 0; i < n && !code; i++)
        eval_pieces_depth(&pieces, eval_depth(p, p->together ? i : g->number), &at[i].piece, &at[i].byte);
    /* From the last to the first, so that no insertion moves a place that is still to come. */
    for (int i = n; i-- > 0 && !code;) {
        code = eval_pieces_insert(&pieces, at[i].piece, at[i].byte, d[i].needle, &at[i].at, err);
        for (int k = i + 1; k < n; k++)
            if (at[k].piece == at[i].piece) at[k].at += strlen(d[i].needle) + 1;
    }
    if (!code) code = eval_haystack_build(h, plan, &pieces, err);
    for (int i = 0; i < n && !code; i++)
        code = ask(h, &d[i], &at[i], eval_depth(p, p->together ? i : g->number), p, err);
    eval_pieces_free(&pieces);
    free(d);
    free(at);
    return code;
}

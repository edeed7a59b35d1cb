/* ocr_options.c - see ocr_options.h. */
#include "appliance/ocr_options.h"

enum { OPTION_OCR = 7000, OPTION_OCR_LANGUAGE };

static const struct argp_option options[] = {
    {"ocr", OPTION_OCR, NULL, 0, "Read pages and files that are pictures of text, with tesseract", 0},
    {"ocr-language", OPTION_OCR_LANGUAGE, "LANGUAGES", 0,
     "In these languages, such as eng+deu (eng); with --ocr", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    ocr_options *o = state->input;
    switch (key) {
    case OPTION_OCR:
        o->on = true;
        return 0;
    case OPTION_OCR_LANGUAGE:
        if (!ingest_ocr_language_is_valid(arg))
            argp_error(state, "%s names no languages: they are like eng or eng+deu", arg);
        o->language = arg;
        return 0;
    case ARGP_KEY_END:
        if (o->language && !o->on) argp_error(state, "--ocr-language goes with --ocr");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp ocr_argp = {options, parse, NULL, NULL, NULL, NULL, NULL};

int ocr_options_check(const ocr_options *o, ph_error *err) {
    return o->on ? ingest_ocr_check(o->language, err) : PH_OK;
}

void ocr_options_apply(ingest_limits *limits, const ocr_options *o) {
    limits->ocr = o->on;
    limits->ocr_language = o->language;
}

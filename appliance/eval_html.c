/* eval_html.c */
#include "appliance/eval.h"

int eval_report_html(const eval_report *r, FILE *f, ph_error *err) {
    (void)r;
    (void)f;
    return ph_fail(err, PH_UNSUPPORTED, "no HTML yet");
}

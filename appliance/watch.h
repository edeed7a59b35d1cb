/* watch.h - keeps the library equal to folders: what is new or changed is added, what is gone is erased.
 *
 * Looks again and again rather than waiting for events, because events do not come from network folders and
 * are lost when many come at once; a look that finds nothing new costs one stat a file.
 */
#ifndef PHAROS_WATCH_H
#define PHAROS_WATCH_H

#include "appliance/intake.h"

typedef struct watch watch;

/* folders: paths of folders that are there (else PH_NOT_FOUND, PH_USAGE), borrowed for the call. */
int watch_open(watch **out, char *const *folders, size_t n, ph_error *err);
void watch_close(watch *w);                         /* NULL is fine */
const char *watch_folder(const watch *w, size_t i); /* absolute; as `missing` is told */
bool watch_is_missing(const watch *w, size_t i);    /* at the last look */

typedef struct watch_options {
    intake_options intake; /* its events tell what became of each file that was taken; erases what is gone */
    void (*removed)(void *user, int64_t document, const char *name); /* with intake.user */
    /* A folder that is not there, or empty where it was not: nothing of it is removed, for a disk that is not
     * mounted looks so. Once for each time that it happens. */
    void (*missing)(void *user, const char *folder);
    bool settled; /* take files at once; else those that were written to in the last two seconds wait for the
                     next look */
} watch_options;

/* One look. *changed = whether a document was added, updated or removed. What is wrong with one file is an
 * event. */
int watch_look(watch *w, store *s, const watch_options *o, bool *changed, ph_error *err);

#endif

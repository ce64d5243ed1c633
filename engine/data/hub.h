/* hub.h - the layout of the Hugging Face hub cache (huggingface/hub-docs, local-cache.md):
 * models--ORG--NAME/{refs/REVISION, snapshots/COMMIT/..., blobs/...}. Private to the data layer. */
#ifndef JAEDA_DATA_HUB_H
#define JAEDA_DATA_HUB_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

enum { HUB_REPO = 200, HUB_PATH = 512 };
/* $HF_HUB_CACHE, else $HF_HOME/hub, else huggingface/hub in $XDG_CACHE_HOME or ~/.cache. false: no home. */
bool hub_folder(char out[HUB_PATH]);
/* "models--ORG--NAME" -> "ORG/NAME"; false: no such folder name. */
bool hub_repo_name(const char *folder, char out[HUB_REPO]);
/* The repository whose snapshot a path lies in; false: in none. */
bool hub_repo_of_path(const char *path, char out[HUB_REPO]);
/* "ORG/NAME" or "NAME" as the hub allows them, so that it can stand in a command as it is. */
bool hub_repo_valid(const char *repo);
/* A revision that can stand in a command and in a path: letters, digits, "._-", and '/' between parts. */
bool hub_revision_valid(const char *revision);
int hub_commits(const char *folder); /* how many commits of the repository are there */
/* The folder of a revision (NULL: "main") in a repository's folder: a ref, or a commit or its only match. NOTFOUND lists
 * what commits are there. */
int hub_snapshot(const char *folder, const char *revision, char out[HUB_PATH], struct err *e);

#endif

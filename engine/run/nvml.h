/* nvml.h - what the driver's management library tells of the cards. It is opened when first asked for, from
 * libnvidia-ml.so.1 or what JAEDA_NVML names, and kept. Any thread. What a card does not tell is absent: NAN or "". */
#ifndef JAEDA_RUN_NVML_H
#define JAEDA_RUN_NVML_H
#include "engine.h"

/* How many cards the driver knows; -1: there is no library or no driver, and why says which. */
int nvml_count(char *why, size_t cap);
/* The first `most` cards in the driver's order; how many were written. */
int nvml_cards(struct engine_gpu *out, int most);
/* The card that lspci prints at this place; false: the driver knows none there, and *out is zero. */
bool nvml_card(const char *pci, struct engine_gpu *out);
/* Joules that it has used since the driver was loaded; NAN: no such card, or it does not count. */
double nvml_energy_j(const char *pci);

#endif

#include "lms.h"

/* Four lanes that need not be aligned: NEON and SSE have them, elsewhere the compiler takes them apart. */
typedef float v4 __attribute__((vector_size(16), aligned(4), may_alias));

static float apply(const float *h, const float *x, int taps) {
	v4 a = {0}, b = {0};
	int i = 0;
	for (; i + 8 <= taps; i += 8) {
		a += *(const v4 *)(h + i) * *(const v4 *)(x + i);
		b += *(const v4 *)(h + i + 4) * *(const v4 *)(x + i + 4);
	}
	for (; i < taps; i += 4)
		a += *(const v4 *)(h + i) * *(const v4 *)(x + i);
	a += b;
	return a[0] + a[1] + a[2] + a[3];
}

static void adapt(float *h, const float *x, int taps, float step) {
	v4 s = {step, step, step, step};
	for (int i = 0; i < taps; i += 4)
		*(v4 *)(h + i) += s * *(const v4 *)(x + i);
}

void ve_lms(float *h, int taps, const float *far, const float *near, int n, float step, double quietest, double *energy, double *heard,
            double *left) {
	for (int i = 0; i < n; i++) {
		const float *x = far + i + 1;
		*energy += (double)x[taps - 1] * x[taps - 1] - (double)far[i] * far[i];
		float y = near[i], e = y - apply(h, x, taps);
		*heard += 0.001 * ((double)y * y - *heard);
		*left += 0.001 * ((double)e * e - *left);
		adapt(h, x, taps, (float)(step * e / (*energy + quietest)));
	}
}

#ifndef VINDU_ECHO_LMS_H
#define VINDU_ECHO_LMS_H

/* One frame of a normalised LMS filter. h has taps coefficients (a multiple of 4), oldest sample first; far has taps+n samples, of which the
 * first taps have the power *energy in all; power below quietest does not adapt. heard and left are running means of the power of near,
 * and of what the filter does not explain. */
void ve_lms(float *h, int taps, const float *far, const float *near, int n, float step, double quietest, double *energy, double *heard,
            double *left);

#endif

/* Algorithm 2 of Lion in one pass over memory: read weight, gradient and momentum, write weight and momentum.

   Plain C without any header of torch, so that it compiles in a second. The operations and their order are those of the
   plain step in torch, rounding by rounding: torch's lerp is a fused multiply-add where the processor has one, so this
   must not be compiled with contractions of other expressions (-ffp-contract=off). */

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define MULTIPLY_ADD(a, b, c) __builtin_fmaf(a, b, c)
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

typedef struct {
    float lr, keep, weight1, weight2; /* keep: 1 - lr * decay; weights: 1 - beta */
    int maximize;
} settings;

static inline float from_float(float x) { return x; }
static inline float to_float(float x) { return x; }

static inline float from_bfloat16(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Round to nearest, ties to even; every NaN becomes 0x7FC0, as in torch. */
static inline uint16_t to_bfloat16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint16_t rounded = (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
    return x != x ? 0x7FC0 : rounded;
}

/* start + weight * (end - start), from the nearer end. */
static inline float lerp(float start, float end, float weight) {
    return weight < 0.5f ? MULTIPLY_ADD(weight, end - start, start) : MULTIPLY_ADD(weight - 1.0f, end - start, end);
}

static inline float sign(float x) { return (float)((x > 0.0f) - (x < 0.0f)); }

/* A range of one tensor. W, G, M: types of weight, gradient and momentum; ROUND_C is what storing the interpolation in
   the wider of the two types does to it. */
#define RANGE(NAME, W, M, READ_W, WRITE_W, READ_M, WRITE_M, ROUND_C)                                                   \
    static void NAME(W *restrict weight, const W *restrict gradient, M *restrict momentum, int64_t size,               \
                     const settings *with) {                                                                           \
        const float lr = READ_W(WRITE_W(with->lr)), keep = with->keep, flip = with->maximize ? -1.0f : 1.0f;                            \
        const float weight1 = with->weight1, weight2 = with->weight2;                                                  \
        for (int64_t i = 0; i < size; i++) {                                                                           \
            const float g = flip * READ_W(gradient[i]), m = READ_M(momentum[i]);                                       \
            const float step = lr * sign(ROUND_C(lerp(m, g, weight1)));                                                \
            const float kept = READ_W(WRITE_W(keep * READ_W(weight[i])));                                              \
            weight[i] = WRITE_W(kept - step);                                                                          \
            momentum[i] = WRITE_M(lerp(m, g, weight2));                                                                \
        }                                                                                                              \
    }

#define ROUND_BFLOAT16(x) from_bfloat16(to_bfloat16(x))

RANGE(range_float_float, float, float, from_float, to_float, from_float, to_float, to_float)
RANGE(range_float_bfloat16, float, uint16_t, from_float, to_float, from_bfloat16, to_bfloat16, to_float)
RANGE(range_bfloat16_bfloat16, uint16_t, uint16_t, from_bfloat16, to_bfloat16, from_bfloat16, to_bfloat16, ROUND_BFLOAT16)

/* All tensors at once. Each thread takes an equal share of all elements, whatever the tensors' sizes. */
#define ALL(NAME, RANGE_NAME, W, M)                                                                                    \
    void NAME(int64_t count, const uint64_t *weights, const uint64_t *gradients, const uint64_t *momenta,              \
              const int64_t *sizes, int threads, float lr, float keep, float weight1, float weight2, int maximize) {   \
        const settings with = {lr, keep, weight1, weight2, maximize};                                    \
        int64_t total = 0;                                                                                             \
        for (int64_t t = 0; t < count; t++) total += sizes[t];                                                         \
        _Pragma("omp parallel for schedule(static, 1) num_threads(threads)") for (int part = 0; part < threads;        \
                                                                                  part++) {                            \
            int64_t at = 0, begin = total / threads * part, end = part == threads - 1 ? total : begin + total / threads; \
            for (int64_t t = 0; t < count && at < end; at += sizes[t], t++) {                                          \
                const int64_t from = begin > at ? begin - at : 0, to = end - at < sizes[t] ? end - at : sizes[t];      \
                if (from < to)                                                                                         \
                    RANGE_NAME((W *)weights[t] + from, (const W *)gradients[t] + from, (M *)momenta[t] + from,         \
                               to - from, &with);                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

ALL(lion_float_float, range_float_float, float, float)
ALL(lion_float_bfloat16, range_float_bfloat16, float, uint16_t)
ALL(lion_bfloat16_bfloat16, range_bfloat16_bfloat16, uint16_t, uint16_t)

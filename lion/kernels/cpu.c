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

enum { BLOCK = 256, LEVELS = 127 }; /* of int8: elements that share a scale, levels on either side of zero */

typedef struct {
    float lr;
    float kept, kept_against; /* shares of a weight that decay leaves: where the step is not against it, and where */
    float weight1, weight2;   /* 1 - beta */
    int maximize;
} settings;

static inline float from_float(float x) { return x; }
static inline float to_float(float x) { return x; }

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float with_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float from_bfloat16(uint16_t x) { return with_bits((uint32_t)x << 16); }

/* All bits where a number's bits are a NaN's, none elsewhere: branches would keep the loops from being vectorized. */
static inline uint32_t where_nan(uint32_t bits) { return -(uint32_t)((bits & 0x7FFFFFFFu) > 0x7F800000u); }

/* Round to nearest, ties to even; every NaN becomes 0x7FC0, as in torch. */
static inline uint16_t to_bfloat16(float x) {
    const uint32_t bits = bits_of(x), nan = where_nan(bits);
    const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    return (uint16_t)((rounded & ~nan) | (0x7FC0u & nan));
}

/* 32 bits, each as good as random: memory.hash_word. */
static inline uint32_t hash_word(uint32_t word) {
    word = (word ^ (word >> 16)) * 0x7FEB352Du;
    word = (word ^ (word >> 15)) * 0x846CA68Bu;
    return word ^ (word >> 16);
}

/* Round up or down, with the chance that makes the mean right. Infinities have no bits to drop, so they stay. */
static inline uint16_t to_bfloat16_stochastically(float x, uint32_t word) {
    const uint32_t bits = bits_of(x), nan = where_nan(bits);
    const uint32_t rounded = (bits + (hash_word(word) & 0xFFFFu)) >> 16;
    return (uint16_t)((rounded & ~nan) | (0x7FC0u & nan));
}

/* start + weight * (end - start), from the nearer end. */
static inline float lerp(float start, float end, float weight) {
    return weight < 0.5f ? MULTIPLY_ADD(weight, end - start, start) : MULTIPLY_ADD(weight - 1.0f, end - start, end);
}

static inline float sign(float x) { return (float)((x > 0.0f) - (x < 0.0f)); }

/* Ranges of one tensor. W: type of weight and gradient. NAME, READ, WRITE: how both are read and a weight is written.
   ROUND: what storing a number in the type of the arithmetic does to it (nothing, unless that is bfloat16). */
#define ROUND_BFLOAT16(x) from_bfloat16(to_bfloat16(x))
#define WRITE_FLOAT(x, i) (x)
#define WRITE_BFLOAT16(x, i) to_bfloat16(x)
#define WRITE_STOCHASTIC(x, i) to_bfloat16_stochastically(x, (uint32_t)(first + (i)) + word)

/* What decay leaves of a weight, where the step has this sign. */
#define KEPT(W_OLD, SIGN) ((SIGN) * (W_OLD) < 0.0f ? kept_against : kept) * (W_OLD)

/* `scales` is for int8 alone, `word` and `first` (the range's first element) for stochastic rounding. */
#define ARGUMENTS(W, M)                                                                                                \
    W *restrict weight, const W *restrict gradient, M *restrict momentum, float *restrict scales, int64_t size,        \
        int64_t first, uint32_t word, const settings *with

#define RANGE(NAME, W, M, READ_W, WRITE_W, ROUND_W, READ_M, WRITE_M, ROUND_LR, ROUND_C)                                \
    static void range_##NAME(ARGUMENTS(W, M)) {                                                                        \
        const float lr = ROUND_LR(with->lr), flip = with->maximize ? -1.0f : 1.0f;                                     \
        const float weight1 = with->weight1, weight2 = with->weight2;                                                  \
        const float kept = with->kept, kept_against = with->kept_against;                                              \
        (void)scales, (void)first, (void)word;                                                                         \
        for (int64_t i = 0; i < size; i++) {                                                                           \
            const float w = READ_W(weight[i]), g = flip * READ_W(gradient[i]), m = READ_M(momentum[i]);                \
            const float s = sign(ROUND_C(lerp(m, g, weight1)));                                                        \
            weight[i] = WRITE_W(ROUND_W(KEPT(w, s)) - lr * s, i);                                                      \
            momentum[i] = WRITE_M(lerp(m, g, weight2));                                                                \
        }                                                                                                              \
    }

/* Block by block: the largest new momentum has to be known before any is stored. Ranges begin where blocks do. */
#define RANGE_INT8(NAME, W, READ_W, WRITE_W, ROUND_W)                                                                  \
    static void range_##NAME(ARGUMENTS(W, int8_t)) {                                                                   \
        const float lr = with->lr, flip = with->maximize ? -1.0f : 1.0f;                                               \
        const float weight1 = with->weight1, weight2 = with->weight2;                                                  \
        const float kept = with->kept, kept_against = with->kept_against;                                              \
        (void)first, (void)word;                                                                                       \
        for (int64_t begin = 0; begin < size; begin += BLOCK) {                                                        \
            const int64_t end = begin + BLOCK < size ? begin + BLOCK : size;                                           \
            float *const scale = scales + begin / BLOCK, new[BLOCK];                                                   \
            uint32_t largest = 0; /* as bits, which order as absolute values do, infinity and NaN last */              \
            for (int64_t i = begin; i < end; i++) {                                                                    \
                const float w = READ_W(weight[i]), g = flip * READ_W(gradient[i]), m = (float)momentum[i] * *scale;    \
                const float s = sign(lerp(m, g, weight1));                                                             \
                weight[i] = WRITE_W(ROUND_W(KEPT(w, s)) - lr * s, i);                                                  \
                const float next = new[i - begin] = lerp(m, g, weight2);                                               \
                const uint32_t size_bits = bits_of(next) & 0x7FFFFFFFu;                                                \
                largest = size_bits > largest ? size_bits : largest;                                                   \
            }                                                                                                          \
            quantise(new, momentum + begin, (int)(end - begin), with_bits(largest), scale);                            \
        }                                                                                                              \
    }

static inline void quantise(const float *from, int8_t *to, int size, float largest, float *scale) {
    *scale = largest <= 3.402823466e38f ? largest / LEVELS : NAN;
    if (!(*scale > 0.0f)) {
        memset(to, 0, (size_t)size);
        return;
    }
    for (int i = 0; i < size; i++) {
        float level = from[i] / *scale;
        level = level > LEVELS ? LEVELS : level < -LEVELS ? -LEVELS : level;
        to[i] = (int8_t)(int)((level + 12582912.0f) - 12582912.0f); /* 1.5 * 2^23: to nearest, ties to even */
    }
}

RANGE(float_float, float, float, from_float, WRITE_FLOAT, to_float, from_float, to_float, to_float, to_float)
RANGE(float_bfloat16, float, uint16_t, from_float, WRITE_FLOAT, to_float, from_bfloat16, to_bfloat16, to_float,
      to_float)
RANGE(bfloat16_bfloat16, uint16_t, uint16_t, from_bfloat16, WRITE_BFLOAT16, ROUND_BFLOAT16, from_bfloat16, to_bfloat16,
      ROUND_BFLOAT16, ROUND_BFLOAT16)
RANGE(stochastic_bfloat16, uint16_t, uint16_t, from_bfloat16, WRITE_STOCHASTIC, to_float, from_bfloat16, to_bfloat16,
      to_float, ROUND_BFLOAT16)
RANGE_INT8(float_int8, float, from_float, WRITE_FLOAT, to_float)
RANGE_INT8(bfloat16_int8, uint16_t, from_bfloat16, WRITE_BFLOAT16, ROUND_BFLOAT16)
RANGE_INT8(stochastic_int8, uint16_t, from_bfloat16, WRITE_STOCHASTIC, to_float)

/* The share of part number `part` of `parts`: elements of tensors laid end to end. Within a tensor a cut falls on a
   whole block. */
static inline int64_t cut(int64_t total, int parts, int part, int64_t at, int64_t size) {
    const int64_t place = (part == parts ? total : total / parts * part) - at;
    return place <= 0 ? 0 : place >= size ? size : place / BLOCK * BLOCK;
}

/* All tensors at once. Each thread takes an equal share of all elements, whatever the tensors' sizes. */
#define ALL(NAME, W, M)                                                                                                \
    void lion_##NAME(int64_t count, const uint64_t *weights, const uint64_t *gradients, const uint64_t *momenta,       \
                     const uint64_t *scales, const int64_t *sizes, const int64_t *words, int threads, float lr,        \
                     float kept, float kept_against, float weight1, float weight2, int maximize) {                     \
        const settings with = {lr, kept, kept_against, weight1, weight2, maximize};                                    \
        int64_t total = 0;                                                                                             \
        for (int64_t t = 0; t < count; t++) total += sizes[t];                                                         \
        _Pragma("omp parallel for schedule(static, 1) num_threads(threads)")                                           \
        for (int part = 0; part < threads; part++) {                                                                   \
            int64_t at = 0;                                                                                            \
            for (int64_t t = 0; t < count; at += sizes[t], t++) {                                                      \
                const int64_t from = cut(total, threads, part, at, sizes[t]);                                          \
                const int64_t to = cut(total, threads, part + 1, at, sizes[t]);                                        \
                if (from < to)                                                                                         \
                    range_##NAME((W *)weights[t] + from, (const W *)gradients[t] + from, (M *)momenta[t] + from,       \
                                 (float *)scales[t] + from / BLOCK, to - from, from, (uint32_t)words[t], &with);       \
            }                                                                                                          \
        }                                                                                                              \
    }

ALL(float_float, float, float)
ALL(float_bfloat16, float, uint16_t)
ALL(bfloat16_bfloat16, uint16_t, uint16_t)
ALL(stochastic_bfloat16, uint16_t, uint16_t)
ALL(float_int8, float, int8_t)
ALL(bfloat16_int8, uint16_t, int8_t)
ALL(stochastic_int8, uint16_t, int8_t)

/* Read three arrays and write two of them, with next to no arithmetic: the memory traffic of a step in float32, and so
   the least time that it can take. For measuring. */
void lion_stream(int64_t size, float *restrict a, const float *restrict b, float *restrict c, int threads) {
    _Pragma("omp parallel for schedule(static, 1) num_threads(threads)")
    for (int part = 0; part < threads; part++) {
        const int64_t end = cut(size, threads, part + 1, 0, size);
        for (int64_t i = cut(size, threads, part, 0, size); i < end; i++) {
            a[i] += b[i];
            c[i] -= b[i];
        }
    }
}

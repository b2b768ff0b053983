/* In the fuzzer's place: check each file that is named. */
#include "target.h"

int main(int count, char **names) {
    static uint8_t room[INPUT_LIMIT];
    for (int number = 1; number < count; number++) {
        FILE *file = fopen(names[number], "rb");
        if (file == NULL) return perror(names[number]), 1;
        size_t size = fread(room, 1, sizeof room, file);
        fclose(file);
        fprintf(stderr, "%s\n", names[number]);
        LLVMFuzzerTestOneInput(room, size);
    }
    printf("%d inputs\n", count - 1);
    return 0;
}

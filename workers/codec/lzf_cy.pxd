cdef Py_ssize_t lzf_into(
    const unsigned char* src,
    Py_ssize_t i,
    Py_ssize_t end,
    unsigned char* dst,
    Py_ssize_t at,
    Py_ssize_t size,
) noexcept nogil
